"""Does with boto3 what a release does, against the URL it is given, and prints what it saw as one JSON object.

Arguments: URL, path of the CA's PEM, access key id, secret access key.
"""
import base64
import datetime
import hashlib
import json
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from botocore_judge import Judge

url, ca, key_id, secret = sys.argv[1:5]


judge = Judge()


def client(service, region="us-east-1", secret=secret):
    made = boto3.client(
        service,
        region_name=region,
        endpoint_url=url,
        verify=ca,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        config=Config(retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}),
    )
    return judge.watch(made)


def refused(call, **arguments):
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"]
    return None


seen = {}
ec2, away, ebs = client("ec2"), client("ec2", "eu-west-1"), client("ebs")
seen["account"] = client("sts").get_caller_identity()["Account"]

snapshot = ebs.start_snapshot(VolumeSize=1, Timeout=60, Tags=[{"Key": "key", "Value": "v"}])["SnapshotId"]
data = os.urandom(524288)
digest = hashlib.sha256(data).digest()
block = {
    "SnapshotId": snapshot,
    "BlockIndex": 3,
    "BlockData": data,
    "DataLength": len(data),
    "Checksum": base64.b64encode(digest).decode(),
    "ChecksumAlgorithm": "SHA256",
}
ebs.put_snapshot_block(**block)
wrong = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
seen["wrong_checksum"] = refused(ebs.put_snapshot_block, **{**block, "Checksum": wrong})
seen["completed"] = ebs.complete_snapshot(
    SnapshotId=snapshot,
    ChangedBlocksCount=1,
    Checksum=base64.b64encode(hashlib.sha256(digest).digest()).decode(),
    ChecksumAlgorithm="SHA256",
    ChecksumAggregationMethod="LINEAR",
)["Status"]
ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot])
blocks = ebs.list_snapshot_blocks(SnapshotId=snapshot)["Blocks"]
got = ebs.get_snapshot_block(SnapshotId=snapshot, **blocks[0])
seen["read_back"] = got["BlockData"].read() == data and got["Checksum"] == block["Checksum"]

registration = {
    "Name": "interop image-1",
    "Architecture": "x86_64",
    "VirtualizationType": "hvm",
    "RootDeviceName": "/dev/sda1",
    "EnaSupport": True,
    "BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}],
    "TagSpecifications": [{"ResourceType": "image", "Tags": [{"Key": "k", "Value": "ü&<"}]}],
}
image = ec2.register_image(**registration)["ImageId"]
ec2.get_waiter("image_available").wait(ImageIds=[image])
seen["duplicate"] = refused(ec2.register_image, **registration)
described = ec2.describe_images(Owners=["self"], Filters=[{"Name": "tag:k", "Values": ["ü*"]}])["Images"]
seen["found"] = [[each["Name"], each["State"], each["Tags"]] for each in described]
ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
attribute = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
seen["permissions"] = attribute["LaunchPermissions"]
organization = "arn:aws:organizations::111122223333:organization/o-abcdefghij"
unit = "arn:aws:organizations::111122223333:ou/o-abcdefghij/ou-abcd-12345678"
members = {"Add": [{"OrganizationArn": organization}, {"OrganizationalUnitArn": unit}]}
ec2.modify_image_attribute(ImageId=image, LaunchPermission=members)
attribute = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")
seen["organizations"] = sorted(key for each in attribute["LaunchPermissions"] for key in each)
copy = away.copy_image(Name="interop image-1", SourceImageId=image, SourceRegion="us-east-1")["ImageId"]
away.get_waiter("image_available").wait(ImageIds=[copy])
seen["copy_tags"] = away.describe_images(ImageIds=[copy])["Images"][0].get("Tags", [])
copied = away.describe_snapshots(OwnerIds=["self"])["Snapshots"][0]["SnapshotId"]
seen["presigned_copy"] = away.copy_snapshot(SourceRegion="eu-west-1", SourceSnapshotId=copied)["SnapshotId"][:5]

# What a release asks and changes beside that: here for what is answered.
later = (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
ec2.describe_regions(AllRegions=True)
ec2.describe_snapshots(SnapshotIds=[snapshot])
ec2.modify_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", GroupNames=["all"])
ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
ec2.reset_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
ec2.create_tags(Resources=[image, snapshot], Tags=[{"Key": "n", "Value": "1"}])
ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [image]}])
ec2.delete_tags(Resources=[snapshot], Tags=[{"Key": "n"}])
ec2.enable_image_deprecation(ImageId=image, DeprecateAt=later)
ec2.describe_images(ImageIds=[image], IncludeDeprecated=True)
ec2.disable_image_deprecation(ImageId=image)
ec2.disable_image(ImageId=image)
seen["protection"] = ec2.enable_image_deregistration_protection(ImageId=image)["Return"]
seen["protected"] = refused(ec2.deregister_image, ImageId=image)
ec2.disable_image_deregistration_protection(ImageId=image)
ec2.enable_image(ImageId=image)
ec2.reset_image_attribute(ImageId=image, Attribute="launchPermission")
ec2.get_ebs_encryption_by_default()
ec2.get_image_block_public_access_state()
ec2.get_snapshot_block_public_access_state()
seen["in_use"] = refused(ec2.delete_snapshot, SnapshotId=snapshot)
seen["not_found"] = refused(ec2.describe_images, ImageIds=["ami-00000000000000000"])
seen["dry_run"] = refused(ec2.deregister_image, ImageId=image, DryRun=True)
seen["unknown"] = refused(ec2.run_instances, ImageId=image, MinCount=1, MaxCount=1)
seen["wrong_secret"] = refused(client("ec2", secret="wrong").describe_regions)
seen["removed"] = ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)["Return"]

s3 = client("s3")
s3.create_bucket(Bucket="interop")
s3.put_object(Bucket="interop", Key="a/b c", Body=b"hello")
seen["object"] = s3.get_object(Bucket="interop", Key="a/b c")["Body"].read().decode()
seen["objects"] = [each["Key"] for each in s3.list_objects_v2(Bucket="interop")["Contents"]]
large = {"Bucket": "interop", "Key": "large"}
upload = s3.create_multipart_upload(**large)["UploadId"]
part = s3.upload_part(**large, UploadId=upload, PartNumber=1, Body=b"one part")["ETag"]
s3.list_parts(**large, UploadId=upload)
s3.complete_multipart_upload(
    **large, UploadId=upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]}
)
seen["part"] = s3.get_object(**large, Range="bytes=4-")["Body"].read().decode()

raw = {"Bucket": "interop", "Key": "disk.raw"}
disk = bytes([7]) * (6 * 1024 * 1024)
s3.put_object(**raw, Body=disk, ChecksumAlgorithm="SHA256", Metadata={"made-by": "boto3"})
upload = s3.create_multipart_upload(**raw, ChecksumAlgorithm="SHA256", Metadata={"made-by": "boto3"})["UploadId"]
copied = s3.upload_part_copy(**raw, UploadId=upload, PartNumber=1, CopySource=raw)["CopyPartResult"]
seen["uploads"] = [each["Key"] for each in s3.list_multipart_uploads(Bucket="interop")["Uploads"]]
part = {"PartNumber": 1, "ETag": copied["ETag"]}
seen["checksum_missing"] = refused(
    s3.complete_multipart_upload, **raw, UploadId=upload, MultipartUpload={"Parts": [part]}
)
part["ChecksumSHA256"] = copied["ChecksumSHA256"]
s3.complete_multipart_upload(**raw, UploadId=upload, MultipartUpload={"Parts": [part]})
seen["metadata"] = s3.head_object(**raw)["Metadata"]
seen["pages"] = [len(page["Contents"]) for page in s3.get_paginator("list_objects_v2").paginate(
    Bucket="interop", PaginationConfig={"PageSize": 2}
)]
source = {"Format": "RAW", "UserBucket": {"S3Bucket": "interop", "S3Key": "disk.raw"}}
task = ec2.import_snapshot(
    DiskContainer=source,
    Description="a disk",
    ClientToken="one",
    TagSpecifications=[{"ResourceType": "import-snapshot-task", "Tags": [{"Key": "k", "Value": "v"}]}],
)["ImportTaskId"]
waiter = ec2.get_waiter("snapshot_imported")
waiter.wait(ImportTaskIds=[task], WaiterConfig={"Delay": 1, "MaxAttempts": 20})
detail = ec2.describe_import_snapshot_tasks(ImportTaskIds=[task])["ImportSnapshotTasks"][0]["SnapshotTaskDetail"]
seen["imported"] = [detail["Status"], ec2.describe_snapshots(SnapshotIds=[detail["SnapshotId"]])["Snapshots"][0]["State"]]
seen["import_role"] = refused(ec2.import_snapshot, DiskContainer=source, RoleName="nobody")
seen["import_tagged"] = [each["ImportTaskId"] == task for each in ec2.describe_import_snapshot_tasks(
    Filters=[{"Name": "task-state", "Values": ["completed"]}]
)["ImportSnapshotTasks"]]
seen["import_cancelled"] = ec2.cancel_import_task(ImportTaskId=task)["PreviousState"]

ssm, name = client("ssm"), "/interop/latest"
ssm.put_parameter(Name=name, Value="one", Type="String", Tags=[{"Key": "k", "Value": "v"}])
seen["parameter_exists"] = refused(ssm.put_parameter, Name=name, Value="two", Type="String")
seen["version"] = ssm.put_parameter(Name=name, Value="two", Overwrite=True)["Version"]
seen["parameter"] = [ssm.get_parameter(Name=each)["Parameter"]["Value"] for each in (name, f"{name}:1")]
ssm.get_parameters(Names=[name, "/interop/none"])
seen["history"] = [each["Value"] for each in ssm.get_parameter_history(Name=name)["Parameters"]]
ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId=name, Tags=[{"Key": "l", "Value": "w"}])
seen["parameter_tags"] = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId=name)["TagList"]
ssm.delete_parameter(Name=name)
seen["parameter_gone"] = refused(ssm.get_parameter, Name=name)

sns = client("sns")
topic = sns.create_topic(Name="interop")["TopicArn"]
seen["topic"] = topic
sns.publish(TopicArn=topic, Subject="One", Message="{}")
seen["empty_message"] = refused(sns.publish, TopicArn=topic, Message="")
sns.delete_topic(TopicArn=topic)
seen["no_topic"] = refused(sns.publish, TopicArn=topic, Message="{}")

seen["complaints"] = judge.complaints
seen["judged"] = sorted(judge.judged)
# A judge that never complains is none: one wrong answer of each kind.
strict = Judge()
model = ec2.meta.service_model.operation_model("DescribeImages")
strict.answer(model, {}, b"""<DescribeImagesResponse><requestId>1</requestId><imagesSet><item><imageID>ami-1</imageID>
<imageState>ready</imageState><isPublic>yes</isPublic></item><member/></imagesSet></DescribeImagesResponse>""")
strict.answer(ebs.meta.service_model.operation_model("StartSnapshot"), {}, b'{"VolumeSize": "1", "Key": 2}')
strict.answer(sns.meta.service_model.operation_model("Publish"), {}, b"""<PublishResponse><PublishResult><MessageID>1
</MessageID></PublishResult><ResponseMetadata/></PublishResponse>""")
strict.answer(ssm.meta.service_model.operation_model("GetParameter"), {}, b"""{"Parameter": {"Version": "1"}}""")
seen["strict"] = strict.complaints
print(json.dumps(seen))
