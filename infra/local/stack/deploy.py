"""Builds the functions for this machine and deploys infra/template.yaml, the file that goes to AWS, to the emulator.

As `sam build` and `sam deploy` do for an account, it uploads the archive of each function's binary and sets CodeUri in
the parsed template. Apart from that, `deploy` changes only features that the emulator lacks, each with a comment.
"""

from __future__ import annotations

import io
import json
import platform
import subprocess
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from botocore.exceptions import ClientError, WaiterError

from stack.api import Api
from stack.emulator import ACCESS_KEY_ID, REGION, SECRET_ACCESS_KEY, Emulator
from stack.process import tail

ROOT = Path(__file__).resolve().parents[3]
TEMPLATE = ROOT / "infra" / "template.yaml"
ARTIFACTS = "milvault-artifacts"


@dataclass(frozen=True)
class Deployment:
    """A deployed stack: its API and the names of its resources. `functions` maps a binary to its function."""

    name: str
    api: Api
    catalog_table: str
    snapshot_bucket: str
    log_group: str
    functions: Mapping[str, str]


def build(log: Path, *options: str) -> dict[str, Path]:
    """Compiles the functions and the command-line client, in the tests' profile unless cargo's `options` name another,
    and returns the path of each. With `--examples`, it also compiles the tests' own programs."""
    command = ["cargo", "build", "--workspace", "--bins", "--message-format=json-render-diagnostics", *options]
    with log.open("wb") as diagnostics:
        built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=diagnostics, check=False)
    if built.returncode:
        raise RuntimeError(f"it doesn't compile:\n{tail(log, 60)}")
    messages = (json.loads(line) for line in built.stdout.splitlines() if line.startswith(b"{"))
    return {
        message["target"]["name"]: Path(message["executable"])
        for message in messages
        if message["reason"] == "compiler-artifact" and message.get("executable")
    }


def deploy(
    emulator: Emulator,
    binaries: Mapping[str, Path],
    *,
    name: str = "milvault",
    parameters: Mapping[str, str | int] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Deployment:
    """Creates the CloudFormation stack `name`. `environment` is added to every function's, for tests."""
    template = load_template()
    functions = {
        logical: resource["Metadata"]["BuildProperties"]["Binary"]
        for logical, resource in template["Resources"].items()
        if resource["Type"] == "AWS::Serverless::Function"
    }
    for logical, binary in functions.items():
        code = _upload(emulator, name, binary, binaries[binary])
        template["Resources"][logical]["Properties"]["CodeUri"] = code
    template["Globals"]["Function"]["Environment"]["Variables"].update(environment or {})
    architecture = "arm64" if platform.machine() in ("arm64", "aarch64") else "x86_64"
    # The emulator's IAM treats every schedule as one of the default group.
    template = json.loads(json.dumps(template).replace(":schedule/${AWS::StackName}/*", ":schedule/default/*"))
    # The emulator's IAM doesn't know the account of a bucket: it has only one account.
    for role in (found for found in template["Resources"].values() if found["Type"] == "AWS::IAM::Role"):
        for policy in role["Properties"]["Policies"]:
            for statement in policy["PolicyDocument"]["Statement"]:
                if "aws:ResourceAccount" in statement.get("Condition", {}).get("StringEquals", {}):
                    del statement["Condition"]
    # The emulator's CloudWatch has no alarms on sums of metrics.
    resources = template["Resources"].items()
    template["Resources"] = {key: found for key, found in resources if "Metrics" not in found.get("Properties", {})}
    # All local servers are on loopback, to which a deployment doesn't connect unless it is allowed.
    ours = {"Architecture": architecture, "AllowedEndpoints": "127.0.0.0/8"}
    outputs = _create_stack(emulator, name, template, {**ours, **(parameters or {})})
    names = {binary: outputs[logical] for logical, binary in functions.items()}

    # The emulator's CloudFormation doesn't read RecursiveLoop, but its Lambda does.
    for logical, binary in functions.items():
        setting = template["Resources"][logical]["Properties"].get("RecursiveLoop")
        if setting:
            emulator.client("lambda").put_function_recursion_config(FunctionName=names[binary], RecursiveLoop=setting)
    # The bucket's policy refuses everything that doesn't come over TLS, and the emulator serves plain HTTP.
    emulator.client("s3").delete_bucket_policy(Bucket=outputs["SnapshotBucket"])

    host = outputs["ApiUrl"].removeprefix("https://").removeprefix("http://")
    return Deployment(
        name=name,
        api=Api(emulator.endpoint_url, host, REGION, ACCESS_KEY_ID, SECRET_ACCESS_KEY),
        catalog_table=outputs["CatalogTable"],
        snapshot_bucket=outputs["SnapshotBucket"],
        log_group=f"/milvault/{name}",
        functions=names,
    )


def load_template() -> dict[str, Any]:
    """The template, with the short forms of intrinsic functions (`!Ref x`) expanded to the long ones."""
    template: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _TemplateLoader)
    return template


class _TemplateLoader(yaml.SafeLoader):
    """YAML with CloudFormation's tags."""


def _intrinsic(loader: yaml.Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    elif isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    else:
        raise yaml.constructor.ConstructorError(problem=f"!{suffix} of nothing", problem_mark=node.start_mark)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_TemplateLoader.add_multi_constructor("!", _intrinsic)


def _upload(emulator: Emulator, stack: str, binary: str, executable: Path) -> dict[str, str]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as bundle:  # stored: compressing takes longer than it saves on one machine
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o755 << 16
        bundle.writestr(entry, executable.read_bytes())
    s3 = emulator.client("s3")
    try:
        s3.create_bucket(Bucket=ARTIFACTS, CreateBucketConfiguration={"LocationConstraint": REGION})
    except ClientError as error:
        if error.response["Error"]["Code"] != "BucketAlreadyOwnedByYou":
            raise
    key = f"{stack}/{binary}.zip"
    s3.put_object(Bucket=ARTIFACTS, Key=key, Body=archive.getvalue())
    return {"Bucket": ARTIFACTS, "Key": key}


def _create_stack(
    emulator: Emulator, name: str, template: Mapping[str, Any], parameters: Mapping[str, str | int]
) -> dict[str, str]:
    # Uploaded, as sam does, because a request's body has room for only 51,200 bytes.
    key = f"{name}/template.json"
    emulator.client("s3").put_object(Bucket=ARTIFACTS, Key=key, Body=json.dumps(template).encode())
    cloudformation = emulator.client("cloudformation")
    cloudformation.create_stack(
        StackName=name,
        TemplateURL=f"{emulator.endpoint_url}/{ARTIFACTS}/{key}",
        Parameters=[{"ParameterKey": key, "ParameterValue": str(value)} for key, value in parameters.items()],
        Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
    )
    try:
        cloudformation.get_waiter("stack_create_complete").wait(
            StackName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
        )
    except WaiterError as error:
        events = cloudformation.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [
            f"  {event['LogicalResourceId']}: {event.get('ResourceStatusReason', event['ResourceStatus'])}"
            for event in events
            if event["ResourceStatus"].endswith("FAILED")
        ]
        raise RuntimeError("the template doesn't deploy:\n" + "\n".join(reasons)) from error
    [stack] = cloudformation.describe_stacks(StackName=name)["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def function_logs(logs: Any, log_group: str) -> str:
    """All log lines of a deployment's functions so far, in order of time, read with a CloudWatch Logs client."""
    lines: list[str] = []
    since = 0
    while True:
        # The emulator returns the first ten thousand and no token for the rest, so the last time stamp is read again.
        try:
            events = logs.filter_log_events(logGroupName=log_group, startTime=since)["events"]
        except logs.exceptions.ResourceNotFoundException:
            return "(no logs)\n"
        last = events[-1]["timestamp"] if len(events) >= 10_000 else None
        lines += [event["message"].rstrip() + "\n" for event in events if event["timestamp"] != last]
        if last is None:
            return "".join(lines)
        if last == since:
            raise RuntimeError("more than ten thousand lines with the same time stamp")
        since = last
