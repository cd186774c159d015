"""Holds raw answers of a service against botocore's own description of it.

botocore's parsers are lenient: they pass over what they do not know and never miss what is not there. A simulated
service that only pleases them can still be one that no other client understands.
"""
import base64
import binascii
import json
import xml.etree.ElementTree as ElementTree

from botocore.utils import parse_timestamp

# What every answer carries beside the members of its shape, by protocol.
ENVELOPE = {"ec2": {"requestId"}, "query": {"ResponseMetadata"}, "rest-xml": set(), "rest-json": set(), "json": set()}


class Judge:
    """Collects what was judged and what is wrong with it. `watch` a client before its first call."""

    def __init__(self):
        self.judged = set()
        self.complaints = []

    def watch(self, client):
        def seen(operation_model, response_dict, **_):
            if response_dict["status_code"] < 300:
                self.answer(operation_model, response_dict["headers"], response_dict["body"])

        client.meta.events.register("before-parse", seen)
        return client

    def answer(self, operation, headers, body):
        """One good answer: headers and body as they came."""
        name = f"{operation.service_model.service_name}:{operation.name}"
        self.judged.add(name)
        shape = operation.output_shape
        if shape is None:
            return
        protocol = operation.service_model.metadata["protocol"]
        protocol = protocol if protocol in ENVELOPE else operation.service_model.resolved_protocol
        for member in shape.required_members:
            where = shape.members[member].serialization
            if where.get("location") == "header" and where["name"].lower() not in {key.lower() for key in headers}:
                self.complain(name, f"the header {where['name']} is missing")
        if shape.serialization.get("payload") or operation.has_streaming_output:
            return
        members = {key: each for key, each in shape.members.items() if "location" not in each.serialization}
        if protocol in ("rest-json", "json"):
            if members or body:
                self.json_structure(members, shape, json.loads(body or b"{}"), name)
            return
        if not body:
            if any(member in members for member in shape.required_members):
                self.complain(name, "no body")
            return
        root = ElementTree.fromstring(body)
        if protocol in ("ec2", "query") and local(root) != f"{operation.name}Response":
            self.complain(name, f"the outermost element is {local(root)}, not {operation.name}Response")
        if protocol == "rest-xml" and local(root) != ROOTS.get(operation.name, f"{operation.name}Result"):
            self.complain(name, f"the outermost element is {local(root)}")
        if protocol == "query":
            self.envelope(root, ENVELOPE[protocol] | {shape.serialization["resultWrapper"]}, name)
            root = next((each for each in root if local(each) == shape.serialization["resultWrapper"]), root)
            self.xml_structure(members, shape, root, name, set())
        else:
            self.xml_structure(members, shape, root, name, ENVELOPE[protocol])

    def envelope(self, node, known, path):
        for each in node:
            if local(each) not in known:
                self.complain(path, f"{local(each)} is not known")

    def xml_structure(self, members, shape, node, path, beside):
        named = {}
        for key, each in members.items():
            flat = each.type_name == "list" and each.serialization.get("flattened")
            name = each.member.serialization.get("name") if flat else None
            named[name or each.serialization.get("name", key)] = (key, each, flat)
        found = set()
        for child in node:
            if local(child) in beside:
                continue
            if local(child) not in named:
                self.complain(path, f"{local(child)} is not known")
                continue
            key, member, flat = named[local(child)]
            if key in found and not flat:
                self.complain(path, f"{local(child)} is there twice")
            found.add(key)
            self.xml_value(member.member if flat else member, child, f"{path}.{key}")
        self.required(shape, members, found, path)

    def xml_value(self, shape, node, path):
        if shape.type_name == "structure":
            self.xml_structure(shape.members, shape, node, path, set())
        elif shape.type_name == "list":
            item = shape.member.serialization.get("name", "member")
            for child in node:
                if local(child) != item:
                    self.complain(path, f"{local(child)} in a list of {item}")
                self.xml_value(shape.member, child, f"{path}[]")
        elif len(node):
            self.complain(path, f"a {shape.type_name} with elements in it")
        else:
            self.scalar(shape, node.text or "", path)

    def json_structure(self, members, shape, value, path):
        if not isinstance(value, dict):
            self.complain(path, "is not an object")
            return
        named = {each.serialization.get("name", key): (key, each) for key, each in members.items()}
        for name, inner in value.items():
            if name not in named:
                self.complain(path, f"{name} is not known")
            elif inner is not None:
                self.json_value(named[name][1], inner, f"{path}.{name}")
        self.required(shape, members, {named[name][0] for name in value if name in named}, path)

    def json_value(self, shape, value, path):
        if shape.type_name == "structure":
            self.json_structure(shape.members, shape, value, path)
        elif shape.type_name == "list":
            if not isinstance(value, list):
                self.complain(path, "is not a list")
                return
            for each in value:
                self.json_value(shape.member, each, f"{path}[]")
        elif shape.type_name in ("integer", "long", "float", "double", "timestamp"):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                self.complain(path, f"{value!r} is not a number")
        elif shape.type_name == "boolean":
            if not isinstance(value, bool):
                self.complain(path, f"{value!r} is not a boolean")
        elif not isinstance(value, str):
            self.complain(path, f"{value!r} is not a string")
        else:
            self.scalar(shape, value, path)

    def required(self, shape, members, found, path):
        for member in shape.required_members:
            if member in members and member not in found:
                self.complain(path, f"{member} is missing")

    def scalar(self, shape, text, path):
        try:
            if shape.type_name in ("integer", "long"):
                int(text)
            elif shape.type_name in ("float", "double"):
                float(text)
            elif shape.type_name == "timestamp":
                parse_timestamp(text)
            elif shape.type_name == "blob":
                base64.b64decode(text, validate=True)
        except (ValueError, OverflowError, binascii.Error):
            self.complain(path, f"{text!r} is no {shape.type_name}")
        if shape.type_name == "boolean" and text not in ("true", "false"):
            self.complain(path, f"{text!r} is no boolean")
        if getattr(shape, "enum", None) and text not in shape.enum:
            self.complain(path, f"{text!r} is none of {', '.join(shape.enum)}")

    def complain(self, path, what):
        self.complaints.append(f"{path}: {what}")


# The outermost elements of S3 are named in its documentation only; botocore does not look at them.
ROOTS = {"ListObjectsV2": "ListBucketResult", "CreateMultipartUpload": "InitiateMultipartUploadResult"}


def local(element):
    return element.tag.rpartition("}")[2]
