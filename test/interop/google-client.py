"""Talks to the simulated Google Cloud with Google's own clients, unchanged, and prints what it found as JSON."""
import gzip
import io
import json
import sys
import tarfile
import time

from google.api_core.client_options import ClientOptions
from google.cloud import storage
from google.oauth2 import service_account
from googleapiclient.discovery import build
from googleapiclient.errors import HttpError

url, key, project, bucket_name = sys.argv[1:]
credentials = service_account.Credentials.from_service_account_file(
    key, scopes=["https://www.googleapis.com/auth/cloud-platform"]
)
found = {}

client = storage.Client(project=project, credentials=credentials, client_options=ClientOptions(api_endpoint=url))
bucket = client.bucket(bucket_name)
packed = io.BytesIO()
with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped:
    with tarfile.open(fileobj=zipped, mode="w", format=tarfile.GNU_FORMAT) as archive:
        member = tarfile.TarInfo("disk.raw")
        member.size = 2**30

        class Zeros(io.RawIOBase):
            def read(self, size=-1):
                return bytes(size)

        archive.addfile(member, Zeros())
data = packed.getvalue()
for name, part in (("a b/1", data[:1000]), ("a b/2", data[1000:])):
    bucket.blob(name).upload_from_string(part, content_type="application/octet-stream", checksum="md5")
whole = bucket.blob("disk.tar.gz")
whole.compose([bucket.blob("a b/1"), bucket.blob("a b/2")])
whole.reload()
found["components"] = whole.component_count
found["no_md5"] = whole.md5_hash is None
found["download"] = whole.download_as_bytes() == data
found["range"] = whole.download_as_bytes(start=10, end=19) == data[10:20]
found["listed"] = [blob.name for blob in client.list_blobs(bucket_name, prefix="a b/")]

compute = build(
    "compute", "v1", credentials=credentials, client_options=ClientOptions(api_endpoint=url + "/compute/v1/"),
    static_discovery=True, cache_discovery=False,
)
images = compute.images()


def done(request):
    operation = request.execute()
    while operation["status"] != "DONE":
        time.sleep(0.05)
        operation = compute.globalOperations().get(project=project, operation=operation["name"]).execute()
    return [one["code"] for one in operation.get("error", {}).get("errors", [])]


def refused(request):
    try:
        request.execute()
    except HttpError as error:
        return error.status_code
    return None


source = f"https://storage.googleapis.com/{bucket_name}/disk.tar.gz"
body = {"name": "from-google", "rawDisk": {"source": source}, "labels": {"made": "here"}}
found["inserted"] = done(images.insert(project=project, body=body))
image = images.get(project=project, image="from-google").execute()
found["image"] = [image["status"], image["diskSizeGb"], image["labels"]]
found["again"] = refused(images.insert(project=project, body=body))
wrong = {"name": "no-archive", "rawDisk": {"source": source.replace("disk.tar.gz", "a%20b/1")}}
found["no_archive"] = done(images.insert(project=project, body=wrong))
found["patched"] = done(images.patch(project=project, image="from-google", body={"family": "some-family"}))
found["family"] = images.getFromFamily(project=project, family="some-family").execute()["name"]
policy = images.getIamPolicy(project=project, resource="from-google").execute()
policy["bindings"] = [{"role": "roles/compute.imageUser", "members": ["allAuthenticatedUsers"]}]
found["policy"] = images.setIamPolicy(project=project, resource="from-google", body={"policy": policy}).execute()["bindings"]
found["deprecated"] = done(images.deprecate(project=project, image="from-google", body={"state": "DEPRECATED"}))
found["family_empty"] = refused(images.getFromFamily(project=project, family="some-family"))
found["quota"] = [one["usage"] for one in compute.projects().get(project=project).execute()["quotas"]]
found["deleted"] = done(images.delete(project=project, image="from-google"))
found["left"] = images.list(project=project).execute().get("items", [])
found["unknown"] = refused(compute.disks().list(project=project, zone="us-east1-b"))



def strangers(schemas, name, value, path):
    """What an answer has that Google's description of the API does not know, or knows as something else."""
    return against(schemas, {"$ref": name}, value, path)


def against(schemas, schema, value, path):
    if "$ref" in schema:
        schema = schemas[schema["$ref"]]
    kind = schema.get("type")
    if kind == "object":
        if not isinstance(value, dict):
            return [f"{path}: not an object"]
        known, more = schema.get("properties", {}), schema.get("additionalProperties")
        wrong = []
        for field, inner in value.items():
            if field in known or more:
                wrong += against(schemas, known.get(field, more), inner, f"{path}.{field}")
            else:
                wrong.append(f"{path}.{field}: unknown")
        return wrong
    if kind == "array":
        if not isinstance(value, list):
            return [f"{path}: not an array"]
        return [one for at, item in enumerate(value) for one in against(schemas, schema["items"], item, f"{path}[{at}]")]
    types = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
    if kind in types and not isinstance(value, types[kind]):
        return [f"{path}: not a {kind}"]
    if "enum" in schema and value not in schema["enum"]:
        return [f"{path}: {value} is none of the enum"]
    if schema.get("format") in ("int64", "uint64") and not str(value).isdigit():
        return [f"{path}: {value} is no number"]
    return []


done(images.insert(project=project, body={**body, "name": "for-schemas", "architecture": "X86_64",
                                          "guestOsFeatures": [{"type": "GVNIC"}], "storageLocations": ["us"]}))
done(images.deprecate(project=project, image="for-schemas", body={"state": "OBSOLETE"}))
deleting = images.delete(project=project, image="for-schemas")
described = compute._schema.schemas
api = client._connection.api_request
objects = build("storage", "v1", credentials=credentials, static_discovery=True, cache_discovery=False)._schema.schemas
answers = [
    (described, "Image", images.get(project=project, image="for-schemas").execute()),
    (described, "ImageList", images.list(project=project).execute()),
    (described, "Policy", images.getIamPolicy(project=project, resource="for-schemas").execute()),
    (described, "Project", compute.projects().get(project=project).execute()),
    (described, "Operation", deleting.execute()),
    (objects, "Bucket", api("GET", f"/b/{bucket_name}")),
    (objects, "Objects", api("GET", f"/b/{bucket_name}/o")),
    (objects, "TestIamPermissionsResponse", api(
        "GET", f"/b/{bucket_name}/iam/testPermissions", query_params={"permissions": "storage.objects.get"})),
]
# A check that finds nothing has to be able to find something.
found["would_find"] = strangers(described, "Image", {"nmae": "x", "status": "NOPE", "family": 1, "id": "1x"}, "Image")
found["answers"] = len(answers)
found["strangers"] = [one for schemas, name, value in answers for one in strangers(schemas, name, value, name)]
print(json.dumps(found))
