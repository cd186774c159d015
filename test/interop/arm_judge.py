"""Holds answers of Resource Manager against the models in azure-mgmt-compute, which are made from Azure's own description.

A complaint is a field the model does not know, one of another type, a value outside a list of values, or one that has to be
there and is not. The library itself is lenient: it would let all of these pass.
"""
import datetime
import enum
import re
import typing

from azure.mgmt.compute import models
from azure.mgmt.compute._utils.model_base import Model

# The first that fits; what is public ends like what is not.
ANSWERS = [
    (r"/communityGalleries/[^/]+$", models.CommunityGallery),
    (r"/communityGalleries/[^/]+/images/[^/]+$", models.CommunityGalleryImage),
    (r"/communityGalleries/[^/]+/images/[^/]+/versions/[^/]+$", models.CommunityGalleryImageVersion),
    (r"/galleries/[^/]+$", models.Gallery),
    (r"/galleries$", models.Gallery),
    (r"/galleries/[^/]+/images/[^/]+$", models.GalleryImage),
    (r"/galleries/[^/]+/images$", models.GalleryImage),
    (r"/images/[^/]+/versions/[^/]+$", models.GalleryImageVersion),
    (r"/galleries/[^/]+/images/[^/]+/versions$", models.GalleryImageVersion),
]

OPERATION_STATES = {"InProgress", "Succeeded", "Failed", "Canceled", "Running", "Accepted"}


def judge(path, status, body):
    """Complaints about one answer, each with where it is."""
    if body is None or body == "":
        return [] if status in (200, 202, 204) else [f"{path}: {status} without a body"]
    if status >= 400:
        error = body.get("error") if isinstance(body, dict) else None
        if not isinstance(error, dict):
            return [f"{path}: an error without `error`"]
        return [f"{path}: error.{name} is no text" for name in ("code", "message") if not isinstance(error.get(name), str)]
    if re.search(r"/operations/", path, re.I):
        state = body.get("status") if isinstance(body, dict) else None
        return [] if state in OPERATION_STATES else [f"{path}: status {state!r} of an operation"]
    model = next((one for pattern, one in ANSWERS if re.search(pattern, path, re.I)), None)
    if model is None:
        return []
    if isinstance(body, dict) and isinstance(body.get("value"), list):
        unknown = [f"{path}: unknown {name}" for name in body if name not in ("value", "nextLink")]
        return unknown + [said for at, one in enumerate(body["value"]) for said in against(model, one, f"{path}[{at}]")]
    return against(model, body, path)


def against(model, value, where):
    if not isinstance(value, dict):
        return [f"{where}: {type(value).__name__} instead of {model.__name__}"]
    # The names on the wire are worked out when the first one is made.
    model({})
    fields = {field._rest_name: (name, field) for name, field in model._attr_to_rest_field.items()}
    hints = {}
    for base in reversed(model.__mro__):
        hints.update(getattr(base, "__annotations__", {}))
    said = [f"{where}.{name} is unknown to {model.__name__}" for name in value if name not in fields]
    for rest, (name, _) in fields.items():
        hint = resolve(hints.get(name))
        if rest not in value or value[rest] is None:
            if hint is not None and not is_optional(hint):
                said.append(f"{where}.{rest} is missing")
            continue
        said += typed(hint, value[rest], f"{where}.{rest}")
    return said


def resolve(hint):
    if isinstance(hint, str):
        return eval(hint, {**vars(typing), "_models": models, "_types": object, "datetime": datetime, "JSON": dict})
    return hint


def is_optional(hint):
    return type(None) in typing.get_args(hint)


def typed(hint, value, where):
    if hint is None or hint is typing.Any:
        return []
    if isinstance(hint, typing.ForwardRef):
        hint = resolve(hint.__forward_arg__)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union:
        options = [resolve(one.__forward_arg__) if isinstance(one, typing.ForwardRef) else one for one in args]
        options = [resolve(one) for one in options if one is not type(None)]
        # `Union[str, Kind]`: text, and one of the kinds.
        kinds = [one for one in options if isinstance(one, type) and issubclass(one, enum.Enum)]
        if kinds and isinstance(value, str):
            known = {str(kind.value).lower() for one in kinds for kind in one}
            return [] if value.lower() in known else [f"{where}: {value!r} is none of {sorted(known)}"]
        found = [typed(one, value, where) for one in options]
        return [] if [] in found else found[0]
    if origin in (list, typing.List):
        if not isinstance(value, list):
            return [f"{where}: {type(value).__name__} instead of a list"]
        return [said for at, one in enumerate(value) for said in typed(args[0], one, f"{where}[{at}]")]
    if origin in (dict, typing.Dict):
        if not isinstance(value, dict):
            return [f"{where}: {type(value).__name__} instead of a map"]
        return [said for name, one in value.items() for said in typed(args[1], one, f"{where}.{name}")]
    if isinstance(hint, type) and issubclass(hint, Model):
        return against(hint, value, where)
    if hint is datetime.datetime:
        try:
            datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00"))
            return []
        except ValueError:
            return [f"{where}: {value!r} is no time"]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        known = {str(kind.value).lower() for kind in hint}
        return [] if str(value).lower() in known else [f"{where}: {value!r} is none of {sorted(known)}"]
    wanted = {str: str, bool: bool, int: int, float: (int, float)}.get(hint)
    if wanted is None:
        return []
    good = isinstance(value, wanted) and not (hint in (int, float) and isinstance(value, bool))
    return [] if good else [f"{where}: {value!r} is no {hint.__name__}"]
