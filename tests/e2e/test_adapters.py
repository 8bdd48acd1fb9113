"""The conformance suite, which `cargo test` runs on the in-memory ports, run on the adapters of DynamoDB and S3, with
the emulator."""

from __future__ import annotations

import os
import subprocess

from stack.deploy import load_template
from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY
from stack.local_stack import LocalStack


def test_the_adapters_keep_every_promise(stack: LocalStack) -> None:
    # A separate table and buckets: the suite's leftovers must not become due for the sweeps of other tests.
    table = load_template()["Resources"]["CatalogTable"]["Properties"]
    keys = ("BillingMode", "AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")
    stack.emulator.client("dynamodb").create_table(TableName="conformance", **{key: table[key] for key in keys})
    for bucket in ("conformance-source", "conformance-destination"):
        stack.emulator.client("s3").create_bucket(
            Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
    s3 = stack.emulator.client("s3")
    s3.create_bucket(
        Bucket="conformance-locked",
        CreateBucketConfiguration={"LocationConstraint": REGION},
        ObjectLockEnabledForBucket=True,
    )
    a_day = {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": {"Mode": "GOVERNANCE", "Days": 1}}}
    s3.put_object_lock_configuration(Bucket="conformance-locked", ObjectLockConfiguration=a_day)
    suite = subprocess.run(
        [stack.binaries["adapter_conformance"]],
        env={
            "AWS_ENDPOINT_URL": stack.emulator.endpoint_url,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_ACCESS_KEY,
            "CATALOG_TABLE": "conformance",
            "SOURCE_BUCKET": "conformance-source",
            "DESTINATION_BUCKET": "conformance-destination",
            "LOCKED_BUCKET": "conformance-locked",
            "LACKING": "conditional-copy",  # the emulator ignores If-None-Match on copies
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    print(suite.stdout, suite.stderr)
    assert suite.returncode == 0 and "BROKEN" not in suite.stdout
