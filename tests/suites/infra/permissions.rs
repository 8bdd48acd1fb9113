//! What functions and the scheduler may do.

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::Value;

use crate::{Template, text, texts};

const TABLE: &str = "${CatalogTable.Arn}";
/// The stack's snapshot bucket, followed by those in other regions.
const BUCKETS: &[&str] = &["${SnapshotBucket.Arn}", "${SnapshotBucketArns}"];
const DATA: &[&str] = &["${SnapshotBucket.Arn}/*/objects/*", "${others}/*/objects/*"];
const DOCUMENTS: &[&str] = &["${SnapshotBucket.Arn}/*/snapshots/*", "${others}/*/snapshots/*"];
const PROBES: &[&str] = &["${SnapshotBucket.Arn}/*/preflight/*", "${others}/*/preflight/*"];
const CREATE_BACKUP: &str =
    "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-create-backup";
const RESTORE: &str =
    "arn:${AWS::Partition}:lambda:${AWS::Region}:${AWS::AccountId}:function:${AWS::StackName}-restore";
const SCHEDULES: &str = "arn:${AWS::Partition}:scheduler:${AWS::Region}:${AWS::AccountId}:schedule/${AWS::StackName}/*";
const BUS: &str = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/default";

const EVERYONE: &[&str] =
    &["AutoBackup", "CreateBackup", "Delete", "Describe", "Instances", "List", "Restore", "RetentionSweep", "Usage"];
/// The functions that use S3, where other keys than the stack's are used.
const STORES: &[&str] = &["CreateBackup", "Delete", "Describe", "Instances", "Restore", "RetentionSweep"];
const JOBS: &[&str] = &["CreateBackup", "Delete", "Restore", "RetentionSweep"];
const IN_NETWORK: &[&str] = &["CreateBackup", "Instances", "Restore"];

/// Functions, actions and resources: everything that the functions' code uses.
const GRANTS: &[(&[&str], &[&str], &[&str])] = &[
    (EVERYONE, &["logs:CreateLogStream", "logs:PutLogEvents"], &["${Logs.Arn}"]),
    (EVERYONE, &["xray:PutTraceSegments", "xray:PutTelemetryRecords"], &["*"]),
    (EVERYONE, &["kms:Decrypt"], &["${KmsKeyArn}"]),
    // Only functions that write need to generate data keys.
    (
        &["AutoBackup", "CreateBackup", "Delete", "Instances", "Restore", "RetentionSweep", "Usage"],
        &["kms:GenerateDataKey"],
        &["${KmsKeyArn}"],
    ),
    (STORES, &["kms:Decrypt"], &["${OtherKeyArns}"]),
    (
        &["CreateBackup", "Delete", "Instances", "Restore", "RetentionSweep"],
        &["kms:GenerateDataKey"],
        &["${OtherKeyArns}"],
    ),
    (
        IN_NETWORK,
        &[
            "ec2:AssignPrivateIpAddresses",
            "ec2:CreateNetworkInterface",
            "ec2:DeleteNetworkInterface",
            "ec2:DescribeNetworkInterfaces",
            "ec2:DescribeSubnets",
            "ec2:UnassignPrivateIpAddresses",
        ],
        &["*"],
    ),
    (IN_NETWORK, &["secretsmanager:GetSecretValue"], &["${SecretArns}"]),
    (EVERYONE, &["dynamodb:GetItem", "dynamodb:Query"], &[TABLE]),
    (
        &["AutoBackup", "CreateBackup", "Delete", "Instances", "Restore", "RetentionSweep", "Usage"],
        &["dynamodb:DeleteItem", "dynamodb:PutItem"],
        &[TABLE],
    ),
    // Leases.
    (JOBS, &["dynamodb:ConditionCheckItem", "dynamodb:UpdateItem"], &[TABLE]),
    (&["RetentionSweep"], &["dynamodb:Query"], &["${CatalogTable.Arn}/index/due"]),
    (&["CreateBackup", "Delete", "Describe", "Restore", "RetentionSweep"], &["s3:ListBucket"], BUCKETS),
    (&["CreateBackup", "Delete", "Describe", "Restore", "RetentionSweep"], &["s3:GetObject"], DOCUMENTS),
    (&["CreateBackup", "Delete", "RetentionSweep"], &["s3:DeleteObject"], DOCUMENTS),
    (&["CreateBackup", "Delete", "RetentionSweep"], &["s3:DeleteObject"], DATA),
    (&["CreateBackup"], &["s3:PutObject"], DOCUMENTS),
    (&["CreateBackup"], &["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"], DATA),
    (&["CreateBackup"], &["s3:GetObjectRetention", "s3:PutObjectRetention"], DATA),
    (&["CreateBackup"], &["s3:GetObjectRetention", "s3:PutObjectRetention"], DOCUMENTS),
    (&["CreateBackup"], &["s3:GetBucketObjectLockConfiguration"], BUCKETS),
    (&["Restore"], &["s3:GetObject", "s3:GetObjectTagging"], DATA),
    (IN_NETWORK, &["s3:ListBucket"], &["${DataBucketArns}"]),
    (&["CreateBackup"], &["s3:GetObject", "s3:GetObjectTagging"], &["${buckets}/*"]),
    (
        &["Restore"],
        &["s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject", "s3:PutObjectTagging"],
        &["${buckets}/milvault-staging/*"],
    ),
    (&["Instances"], &["s3:DeleteObject", "s3:PutObject"], PROBES),
    (&["Instances"], &["s3:DeleteObject", "s3:PutObject"], &["${buckets}/milvault-staging/preflight/*"]),
    (&["Usage"], &["s3:ListBucket"], &["${SnapshotBucket.Arn}"]),
    (&["Usage"], &["s3:DeleteObject", "s3:PutObject"], &["${SnapshotBucket.Arn}/usage/region=*"]),
    (&["AutoBackup", "CreateBackup", "Restore", "RetentionSweep"], &["events:PutEvents"], &[BUS]),
    (&["AutoBackup"], &["lambda:InvokeFunction"], &[CREATE_BACKUP]),
    (&["CreateBackup"], &["lambda:InvokeFunction"], &[CREATE_BACKUP]),
    (&["Delete", "Restore", "RetentionSweep"], &["lambda:InvokeFunction"], &[CREATE_BACKUP, RESTORE]),
    (&["AutoBackup", "RetentionSweep"], &["scheduler:CreateSchedule", "scheduler:UpdateSchedule"], &[SCHEDULES]),
    (&["AutoBackup", "Instances", "RetentionSweep"], &["scheduler:DeleteSchedule"], &[SCHEDULES]),
    (&["AutoBackup", "RetentionSweep"], &["iam:PassRole"], &["${ScheduleRole.Arn}"]),
];

/// The functions' roles, by the functions' names.
fn roles(template: &Template) -> BTreeMap<&str, &Value> {
    let roles = template.resources("AWS::IAM::Role");
    let functions = template.resources("AWS::Serverless::Function").into_iter();
    let role_of = |function: &Value| text(&function["Properties"]["Role"]).trim_end_matches(".Arn").to_owned();
    functions.map(|(name, function)| (name, roles[role_of(function).as_str()])).collect()
}

/// The statements of a function's role, including conditional ones.
fn statements(role: &Value) -> Vec<&Value> {
    let policies = role["Properties"]["Policies"].as_sequence().unwrap();
    assert!(policies.len() == 1 && role["Properties"]["ManagedPolicyArns"].is_null());
    let all = policies[0]["PolicyDocument"]["Statement"].as_sequence().unwrap();
    let stated = all.iter().map(|statement| match statement {
        Value::Tagged(choice) => &choice.value[1],
        statement => statement,
    });
    stated.collect()
}

#[test]
fn every_role_allows_exactly_what_its_function_needs() {
    let template = Template::read();
    let roles = roles(&template);
    assert_eq!(roles.values().map(|role| std::ptr::from_ref::<Value>(role)).collect::<BTreeSet<_>>().len(), 9);
    let mut granted = BTreeSet::new();
    for (name, role) in &roles {
        let name = name.trim_end_matches("Function");
        for statement in statements(role).into_iter().filter(|statement| statement["Effect"] == "Allow") {
            let actions = texts(&statement["Action"]);
            for resource in texts(&statement["Resource"]) {
                granted.extend(actions.iter().map(|action| (name.to_owned(), action.clone(), resource.clone())));
            }
        }
    }
    let mut used = BTreeSet::new();
    for (names, actions, resources) in GRANTS {
        for (name, action) in names.iter().flat_map(|name| actions.iter().map(move |action| (*name, *action))) {
            used.extend(resources.iter().map(|resource| (name.to_owned(), action.to_owned(), (*resource).to_owned())));
        }
    }
    assert_eq!(granted.difference(&used).collect::<Vec<_>>(), Vec::<&_>::new(), "granted, and not used");
    assert_eq!(used.difference(&granted).collect::<Vec<_>>(), Vec::<&_>::new(), "used, and not granted");

    let functions = template.resources("AWS::Serverless::Function");
    let in_network = functions.iter().filter(|(_, function)| !function["Properties"]["VpcConfig"].is_null());
    let in_network: Vec<_> = in_network.map(|(name, _)| name.trim_end_matches("Function")).collect();
    assert_eq!(in_network, IN_NETWORK, "only who talks to Milvus reaches its network");
}

#[test]
fn data_buckets_of_other_accounts_are_neither_read_nor_written() {
    let template = Template::read();
    let mut guarded = 0;
    for (name, role) in roles(&template) {
        for statement in statements(role) {
            let is_data = |resource: &String| resource == "${DataBucketArns}" || resource.starts_with("${buckets}/");
            if texts(&statement["Resource"]).iter().any(is_data) {
                let whose = &statement["Condition"]["StringEquals"]["aws:ResourceAccount"];
                let whose: BTreeSet<_> = texts(whose).into_iter().collect();
                assert_eq!(whose, ["${AWS::AccountId}".to_owned(), "${DataAccountIds}".to_owned()].into(), "{name}");
                guarded += 1;
            }
        }
    }
    assert_eq!(guarded, 3 + 3, "three list; one reads, one stages, one probes");
    assert_eq!(template.0["Parameters"]["DataAccountIds"]["Default"], "");
}

#[test]
fn the_meter_writes_only_accounts_and_usage_to_the_catalog() {
    let template = Template::read();
    let writes = statements(roles(&template)["UsageFunction"])
        .into_iter()
        .filter(|statement| texts(&statement["Action"]).contains(&"dynamodb:PutItem".to_owned()));
    let [ledger] = writes.collect::<Vec<_>>()[..] else { panic!("one statement") };
    let keys = texts(&ledger["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]);
    assert_eq!(keys, ["ACCOUNT#*", "USAGE#*"], "as in functions/shared/dynamodb/src/keys.rs");
}

#[test]
fn function_code_cannot_use_the_network_permissions_of_lambda() {
    let template = Template::read();
    for name in IN_NETWORK {
        let roles = roles(&template);
        let function = &template.resources("AWS::Serverless::Function")[format!("{name}Function").as_str()];
        let of =
            |sid: &str| statements(roles[format!("{name}Function").as_str()]).into_iter().find(|s| s["Sid"] == sid);
        let (allowed, denied) = (of("Network").unwrap(), of("NetworkNotByCode").unwrap());
        assert_eq!((&denied["Effect"], &denied["Action"]), (&Value::from("Deny"), &allowed["Action"]));
        let functions = texts(&denied["Condition"]["ArnEquals"]["lambda:SourceFunctionArn"]);
        let own = text(&function["Properties"]["FunctionName"]);
        assert!(functions.iter().any(|arn| arn.ends_with(&format!(":function:{own}"))), "{own}: {functions:?}");
    }
}

#[test]
fn only_the_job_functions_may_invoke_themselves_recursively() {
    for (name, function) in Template::read().resources("AWS::Serverless::Function") {
        let properties = &function["Properties"];
        let is_job = ["CreateBackupFunction", "RestoreFunction"].contains(&name);
        // Lambda knows Allow and Terminate, and at most two retries; the linter accepts anything.
        assert_eq!(properties["RecursiveLoop"].as_str(), is_job.then_some("Allow"), "{name}");
        let retries = &properties["EventInvokeConfig"]["MaximumRetryAttempts"];
        assert!(retries.as_u64().is_none_or(|retries| retries <= 2), "{name}");
    }
}

#[test]
fn the_scheduler_may_begin_backups_and_do_nothing_else() {
    let template = Template::read();
    let role = template.resources("AWS::IAM::Role")["ScheduleRole"];
    let statements = role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].as_sequence().unwrap();
    let actions: Vec<&str> = statements.iter().map(|statement| text(&statement["Action"])).collect();
    // The third statement is for the queue's key, if it has one.
    assert_eq!(actions, ["lambda:InvokeFunction", "sqs:SendMessage", ""]);
    assert!(text(&statements[0]["Resource"]).ends_with("-create-backup"));
    let trusted = &role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"];
    assert_eq!(trusted, "scheduler.amazonaws.com");
}
