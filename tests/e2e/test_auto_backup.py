"""Automatic backups on the deployed stack: the scheduler fires by itself, and the real Milvus is backed up."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

from stack.deploy import deploy
from stack.local_stack import LocalStack
from stack.process import poll

from product import Product
from rows import fill, fill_all
from test_bad_input import problem
from test_sweep import expire

DEFAULTS = {"enabled": False, "time": "03:00:00", "timezone": "UTC", "retentionDays": 3, "keepAtLeast": 0}


def minute(offset: int) -> datetime:
    """The minute that begins this number of minutes after the present one."""
    return datetime.now(timezone.utc).replace(second=0, microsecond=0) + timedelta(minutes=offset)


def text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ")


def put(product: Product, **body: Any) -> Any:
    return product.call("PUT", "/auto-backup", body).expect(200)


def found(product: Product) -> Any:
    return product.call("GET", "/auto-backup").expect(200)


def automatic(product: Product) -> list[Any]:
    return product.call("GET", "/backups", query={"type": "AUTO"}).expect(200)["items"]


def schedules(product: Product) -> dict[str, Any]:
    """The instance's schedule in the scheduler, if there is one."""
    scheduler = product.stack.emulator.client("scheduler")
    group = product.deployment.name
    listed = scheduler.list_schedules(GroupName=group)["Schedules"]
    names = [schedule["Name"] for schedule in listed if schedule["Name"] == product.instance]
    return {name: scheduler.get_schedule(GroupName=group, Name=name) for name in names}


def change_record(product: Product, path: str, value: Any) -> None:
    """Changes the record of the automatic backups directly in the catalog."""
    names = {f"#n{number}": name for number, name in enumerate(path.split("."))}
    product.stack.emulator.client("dynamodb").update_item(
        TableName=product.deployment.catalog_table,
        Key={"PK": {"S": f"INSTANCE#{product.instance}"}, "SK": {"S": "AUTO"}},
        UpdateExpression=f"SET {'.'.join(names)} = :value, dueAt = :past ADD version :one",
        ExpressionAttributeNames=names,
        ExpressionAttributeValues={":value": value, ":past": {"S": "2020-01-01T00:00:00.000Z"}, ":one": {"N": "1"}},
    )


def due_since_a_minute(product: Product, **more: Any) -> datetime:
    """Switches automatic backups on as if this had happened a while ago, and returns the run that is due."""
    run = minute(-1)
    put(product, enabled=True, time=run.strftime("%H:%M"), **more)
    change_record(product, "record.switch.since", {"S": text(run - timedelta(hours=1))})
    return run


def deliver(product: Product, run: datetime) -> Any:
    """Sends a run to the function as the scheduler does."""
    return product.invoke("create-backup", {"scheduled": {"instanceId": product.instance, "time": text(run)}})


def test_what_is_not_asked_for_is_off_and_shows_the_defaults(product: Product) -> None:
    assert found(product) == DEFAULTS | {"nextRunAt": None, "lastRun": None}
    assert product.call("GET").expect(200)["autoBackup"] == found(product)
    for method, asked in (("GET", None), ("PUT", {"enabled": True})):
        nobodys = product.stack.api.call(method, "/instances/nobody/auto-backup", asked)
        problem(nobodys, 404, "INSTANCE_NOT_FOUND")
    for body, pointer in (
        ({}, "/enabled"),
        ({"enabled": "yes"}, "/enabled"),
        ({"enabled": True, "time": "25:00"}, "/time"),
        ({"enabled": True, "time": "03:00:30"}, "/time"),
        ({"enabled": True, "timezone": "Mars/Olympus"}, "/timezone"),
        ({"enabled": True, "retentionDays": 0}, "/retentionDays"),
        ({"enabled": True, "retentionDays": 366}, "/retentionDays"),
        ({"enabled": True, "keepAtLeast": -1}, "/keepAtLeast"),
    ):
        wrong = problem(product.call("PUT", "/auto-backup", body), 400, "VALIDATION_FAILED")
        assert [error["pointer"] for error in wrong["errors"]] == [pointer]
    assert found(product)["enabled"] is False and not schedules(product)


def test_a_schedule_of_the_next_minute_makes_a_backup_by_itself(product: Product) -> None:
    fill("items", 1_000)
    # The minute after the next if the next is about to begin.
    run = minute(1 if datetime.now(timezone.utc).second < 45 else 2)
    answer = put(product, enabled=True, time=run.strftime("%H:%M"), retentionDays=2)
    assert answer["time"] == run.strftime("%H:%M:00") and "warnings" not in answer
    assert answer["nextRunAt"] == text(run).replace("Z", ".000Z")

    product.until("/auto-backup", lambda auto: auto["lastRun"] is not None, seconds=240)
    ended = product.until("/auto-backup", lambda auto: auto["lastRun"]["status"] not in ("RUNNING", "WAITING"))
    last = ended["lastRun"]
    assert last["status"] == "COMPLETED" and last["at"] == text(run).replace("Z", ".000Z"), last
    [backup] = automatic(product)
    assert backup["backupId"] == last["backupId"] and backup["status"] == "AVAILABLE"
    assert backup["name"] == run.strftime("auto-%Y-%m-%dT%H-%M") and backup["entityCount"] >= 1_000
    kept = datetime.fromisoformat(backup["expiresAt"]) - datetime.fromisoformat(backup["createdAt"])
    assert kept == timedelta(days=2)

    # The scheduler may deliver a run again at any time.
    assert deliver(product, run)["run"] == "NONE"
    # A changed retention applies only to future backups.
    put(product, enabled=True, time=run.strftime("%H:%M"), retentionDays=300)
    assert automatic(product) == [backup]

    expire(product, backup["backupId"])
    product.sweep()
    assert product.call("GET", f"/backups/{backup['backupId']}").expect(200)["status"] == "DELETED"
    put(product, enabled=False)


def test_one_run_delivered_five_times_at_once_makes_one_backup(product: Product) -> None:
    fill("items", 1_000)
    run = due_since_a_minute(product, timezone="UTC")
    with ThreadPoolExecutor(5) as pool:
        answers = list(pool.map(lambda _: deliver(product, run), range(5)))
    assert sum("slice" in answer for answer in answers) == 1, answers
    [backup] = automatic(product)
    product.ended(f"/backups/{backup['backupId']}", "AVAILABLE")
    assert len(automatic(product)) == 1 and found(product)["lastRun"]["status"] == "COMPLETED"
    put(product, enabled=False)


def test_a_run_waits_for_another_job_and_is_begun_when_that_is_over(product: Product) -> None:
    fill_all((f"part_{number}" for number in range(3)), 2_000)
    run = due_since_a_minute(product)
    manual = product.start_backup("in-the-way")
    answer = deliver(product, run)
    assert answer["run"] == "WAITING" and answer["failure"]["code"] == "INSTANCE_BUSY", answer
    assert found(product)["lastRun"]["status"] in ("WAITING", "RUNNING", "COMPLETED")
    product.ended(f"/backups/{manual}", "AVAILABLE")
    # Only the end of the other job begins the waiting run.
    product.until("/auto-backup", lambda auto: auto["lastRun"]["status"] == "COMPLETED")
    [backup] = automatic(product)
    assert backup["name"] == run.strftime("auto-%Y-%m-%dT%H-%M")
    put(product, enabled=False)


def test_switching_off_warns_and_nothing_is_made_of_an_event_that_comes_late(product: Product) -> None:
    run = due_since_a_minute(product)
    assert schedules(product)[product.instance]["ScheduleExpression"] == f"cron({run.minute} {run.hour} * * ? *)"
    answer = put(product, enabled=False)
    assert "can't be restored" in answer["warnings"][0] and answer["nextRunAt"] is None
    assert not schedules(product)
    assert deliver(product, run) == {"run": "NONE", "reason": "automatic backup is switched off"}
    assert automatic(product) == []


def test_the_schedule_is_the_stacks_own_and_says_what_is_asked_for(product: Product) -> None:
    put(product, enabled=True, time="02:30:00", timezone="Asia/Tokyo", retentionDays=7, keepAtLeast=2)
    schedule = schedules(product)[product.instance]
    assert schedule["ScheduleExpression"] == "cron(30 2 * * ? *)"
    assert schedule["ScheduleExpressionTimezone"] == "Asia/Tokyo"
    assert schedule["FlexibleTimeWindow"]["Mode"] == "OFF"
    target = schedule["Target"]
    assert target["Arn"].endswith(f":{product.deployment.functions['create-backup']}")
    assert target["DeadLetterConfig"]["Arn"] and target["RetryPolicy"]["MaximumRetryAttempts"] == 10
    assert json.loads(target["Input"]) == {
        "scheduled": {"instanceId": product.instance, "time": "<aws.scheduler.scheduled-time>"}
    }
    put(product, enabled=True, time="04:15")
    schedule = schedules(product)[product.instance]
    assert (schedule["ScheduleExpression"], schedule["ScheduleExpressionTimezone"]) == ("cron(15 4 * * ? *)", "UTC")
    # A removed instance has no schedule.
    product.call("DELETE").expect(200)
    assert not schedules(product)
    product.register()
    assert found(product) == DEFAULTS | {"nextRunAt": None, "lastRun": None}


def test_the_sweep_gives_the_scheduler_what_a_crash_kept_from_it(product: Product) -> None:
    put(product, enabled=True, time="02:30")
    scheduler = product.stack.emulator.client("scheduler")
    scheduler.delete_schedule(GroupName=product.deployment.name, Name=product.instance)
    long_ago = text(minute(-60))
    change_record(product, "record.schedule", {"M": {"schedule": {"S": "unconfirmed"}, "since": {"S": long_ago}}})
    expected = {"instanceId": product.instance, "outcome": "Reconcile"}
    assert expected in product.sweep(dryRun=True)["automatic"] and not schedules(product)
    assert expected in product.sweep()["automatic"]
    assert schedules(product)[product.instance]["ScheduleExpression"] == "cron(30 2 * * ? *)"
    assert expected not in product.sweep()["automatic"]
    put(product, enabled=False)


def test_a_run_that_the_scheduler_loses_is_begun_by_the_sweep(product: Product) -> None:
    fill("items", 500)
    lost = minute(-30)
    put(product, enabled=True, time=lost.strftime("%H:%M"))
    change_record(product, "record.switch.since", {"S": text(lost - timedelta(hours=1))})
    swept = [one for one in product.sweep()["automatic"] if one["instanceId"] == product.instance]
    assert len(swept) == 1 and swept[0]["outcome"].startswith("Begin ")
    last = product.until("/auto-backup", lambda auto: (auto["lastRun"] or {}).get("status") == "COMPLETED")["lastRun"]
    assert last["at"] == text(lost).replace("Z", ".000Z") and last["lateSeconds"] >= 30 * 60
    put(product, enabled=False)


def test_users_are_told_of_what_happens(product: Product) -> None:
    fill("items", 500)
    emulator = product.stack.emulator
    sqs = emulator.client("sqs")
    queue = sqs.create_queue(QueueName=f"told-{product.instance}"[:80])["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events = emulator.client("events")
    pattern = {"source": ["milvault"], "detail": {"instanceId": [product.instance]}}
    events.put_rule(Name=f"told-{product.instance}"[:64], EventPattern=json.dumps(pattern))
    events.put_targets(Rule=f"told-{product.instance}"[:64], Targets=[{"Id": "queue", "Arn": arn}])
    told: dict[str, Any] = {}

    def is_told(kind: str) -> bool:
        answer = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            event = json.loads(message["Body"])
            told[event["detail-type"]] = event["detail"]
        return kind in told

    backup = product.backup("told", expiresInDays=1)
    assert poll(lambda: is_told("Backup Completed"), 20), told
    assert told["Backup Completed"]["backupId"] == backup["backupId"]
    restore = product.restore(backupName="told")
    assert poll(lambda: is_told("Restore Completed"), 20), told
    assert told["Restore Completed"]["restoreId"] == restore["restoreId"]
    expire(product, backup["backupId"])
    product.sweep()
    assert poll(lambda: is_told("Backup Expired"), 20), told
    assert told["Backup Expired"]["name"] == "told"


def test_with_an_address_failures_go_to_a_topic_of_the_stacks_own(stack: LocalStack) -> None:
    emulator = stack.emulator
    told = deploy(emulator, stack.binaries, name="told", parameters={"FailureEmail": "operations@example.com"})
    sns, sqs = emulator.client("sns"), emulator.client("sqs")
    [topic] = [topic["TopicArn"] for topic in sns.list_topics()["Topics"] if f":{told.name}-" in topic["TopicArn"]]
    subscriptions = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [(one["Protocol"], one["Endpoint"]) for one in subscriptions] == [("email", "operations@example.com")]
    queue = sqs.create_queue(QueueName="failures")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns_sends = {"Effect": "Allow", "Principal": {"Service": "sns.amazonaws.com"}, "Action": "sqs:SendMessage"}
    policy = {"Version": "2012-10-17", "Statement": [sns_sends | {"Resource": arn}]}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    for kind in ("Backup Completed", "Backup Failed"):
        detail = json.dumps({"id": kind})
        emulator.client("events").put_events(Entries=[{"Source": "milvault", "DetailType": kind, "Detail": detail}])
    heard: list[str] = []

    def has_heard() -> bool:
        for message in sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages", []):
            heard.append(json.loads(json.loads(message["Body"])["Message"])["detail-type"])
        return bool(heard)

    assert poll(has_heard, 20) and heard == ["Backup Failed"]
