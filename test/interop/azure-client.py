"""The vendor's own Python clients against the simulated Azure: one disk, one version, and what is refused."""
import json
import sys

from arm_judge import judge
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.identity import ClientSecretCredential
from azure.mgmt.compute import ComputeManagementClient
from azure.storage.blob import BlobServiceClient

given = json.loads(sys.argv[1])
account, group, gallery = given["account"], given["account"]["resourceGroup"], given["gallery"]
common = {"connection_verify": given["ca"], "retry_total": 0}
result = {}


def refused(work):
    """Status and code of a call that must fail."""
    try:
        done = work()
        if hasattr(done, "result"):
            done.result()
    except HttpResponseError as error:
        return [error.status_code, getattr(error, "error_code", None) or error.error.code]
    return "not refused"


def credential(secret):
    return ClientSecretCredential(
        account["tenantId"], account["clientId"], secret,
        authority=given["authority"], disable_instance_discovery=True, **common,
    )


right = credential(account["clientSecret"])
blobs = BlobServiceClient(given["blob"], credential=right, **common)
disk = open(given["disk"], "rb").read()
blob = blobs.get_blob_client(given["container"], "interop.vhd")
blob.create_page_blob(len(disk))
half = 1024 * 1024
blob.upload_page(disk[:half], 0, half, validate_content=True)
blob.upload_page(disk[-512:], len(disk) - 512, 512, validate_content=True)
ranges = [(each["start"], each["end"]) for each in blob.get_page_ranges()[0]]
result["ranges"] = ranges
result["same_bytes"] = blob.download_blob().readall() == disk
result["beyond_end"] = refused(lambda: blob.upload_page(disk[:512], len(disk), 512))
lease = blob.acquire_lease(60)
result["leased"] = refused(lambda: blob.upload_page(disk[:512], 0, 512))
lease.release()

heard = []


class Listener(SansIOHTTPPolicy):
    """Keeps every answer of Resource Manager as it came."""

    def on_response(self, request, response):
        response.http_response.read()
        text = response.http_response.text()
        path = request.http_request.url.split("?")[0]
        heard.append((path, response.http_response.status_code, json.loads(text) if text else None))


compute = ComputeManagementClient(
    right, account["subscriptionId"], base_url=given["management"],
    credential_scopes=["https://management.azure.com/.default"], polling_interval=0,
    per_call_policies=[Listener()], **common,
)
properties = {
    "osType": "Linux", "osState": "Generalized", "hyperVGeneration": "V2", "architecture": "x64",
    "identifier": {"publisher": "Fedora", "offer": "Cloud", "sku": "interop"},
    "features": [
        {"name": "SecurityType", "value": "TrustedLaunchSupported"},
        {"name": "DiskControllerTypes", "value": "SCSI, NVMe"},
        {"name": "IsAcceleratedNetworkSupported", "value": "True"},
    ],
}
definition = {"location": "eastus", "properties": properties}
begin = compute.gallery_images.begin_create_or_update
begin(group, gallery, "interop", definition).result()
made = compute.gallery_images.get(group, gallery, "interop").as_dict()["properties"]
result["definition"] = [made["architecture"], made["hyperVGeneration"], [each["name"] for each in made["features"]]]
other = {**definition, "properties": {**properties, "architecture": "Arm64"}}
result["other_arch"] = refused(lambda: begin(group, gallery, "interop", other))

storage = (
    f"/subscriptions/{account['subscriptionId']}/resourceGroups/{group}"
    f"/providers/Microsoft.Storage/storageAccounts/{account['storageAccount']}"
)
version = {
    "location": "eastus",
    "properties": {
        "storageProfile": {"osDiskImage": {"source": {"storageAccountId": storage, "uri": blob.url}}},
        "publishingProfile": {
            "targetRegions": [{"name": "eastus", "regionalReplicaCount": 2, "storageAccountType": "Standard_ZRS"}],
            "excludeFromLatest": True, "endOfLifeDate": "2099-05-13T00:00:00Z",
        },
    },
}
versions = compute.gallery_image_versions
versions.begin_create_or_update(group, gallery, "interop", "44.1.0", version).result()
seen = versions.get(group, gallery, "interop", "44.1.0", expand="ReplicationStatus").as_dict()["properties"]
profile = seen["publishingProfile"]
region = profile["targetRegions"][0]
result["version"] = [
    seen["provisioningState"], region["regionalReplicaCount"], region["storageAccountType"],
    profile["excludeFromLatest"], profile["endOfLifeDate"][:10],
    [each["state"] for each in seen["replicationStatus"]["summary"]],
]
result["listed"] = [each.name for each in versions.list_by_gallery_image(group, gallery, "interop")]
result["has_versions"] = refused(lambda: compute.gallery_images.begin_delete(group, gallery, "interop"))
compute.galleries.get(group, gallery)
list(compute.galleries.list_by_resource_group(group))
list(compute.gallery_images.list_by_gallery(group, gallery))
public = compute.galleries.get(group, gallery).as_dict()["properties"]["sharingProfile"]["communityGalleryInfo"]
public = public["publicNames"][0]
compute.community_galleries.get("eastus", public)
compute.community_gallery_images.get("eastus", public, "interop")
compute.community_gallery_image_versions.get("eastus", public, "interop", "44.1.0")
versions.begin_delete(group, gallery, "interop", "44.1.0").result()
result["gone"] = refused(lambda: versions.get(group, gallery, "interop", "44.1.0"))
blob.delete_blob()
result["blob_gone"] = not blob.exists()
try:
    credential("wrong").get_token("https://management.azure.com/.default")
    result["wrong_secret"] = "not refused"
except Exception as error:
    result["wrong_secret"] = "AADSTS7000215" in str(error)
result["complaints"] = sorted({said for answer in heard for said in judge(*answer)})
result["judged"] = len(heard)
# A judge that finds nothing in a spoilt answer is none.
path, status, body = next(one for one in heard if one[0].endswith("/versions/44.1.0") and one[2] and one[1] == 200)
for spoil in (
    lambda copy: copy.update(surprise=1),
    lambda copy: copy.pop("location"),
    lambda copy: copy["properties"].update(provisioningState="Perhaps"),
    lambda copy: copy["properties"]["publishingProfile"].update(excludeFromLatest="yes"),
):
    copy = json.loads(json.dumps(body))
    spoil(copy)
    assert judge(path, status, copy), "the judge is blind"
print(json.dumps(result))
