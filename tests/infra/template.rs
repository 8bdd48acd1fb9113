//! The template against the contract: what would only fail in an account, and what the linters don't see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::{BTreeMap, BTreeSet};

use serde_yaml_ng::Value;

/// The contract's routes of the functions that the template deploys.
const ROUTES: [(&str, &str); 20] = [
    ("GET /instances", "InstancesFunction"),
    ("PUT /instances/{instanceId}", "InstancesFunction"),
    ("GET /instances/{instanceId}", "InstancesFunction"),
    ("DELETE /instances/{instanceId}", "InstancesFunction"),
    ("POST /instances/{instanceId}/preflight", "InstancesFunction"),
    ("GET /instances/{instanceId}/auto-backup", "AutoBackupFunction"),
    ("PUT /instances/{instanceId}/auto-backup", "AutoBackupFunction"),
    ("POST /instances/{instanceId}/backups", "CreateBackupFunction"),
    ("POST /instances/{instanceId}/backups/{backupId}/verify", "CreateBackupFunction"),
    ("GET /instances/{instanceId}/backups", "ListFunction"),
    ("GET /instances/{instanceId}/restores", "ListFunction"),
    ("GET /instances/{instanceId}/backups/{backupId}", "DescribeFunction"),
    ("GET /instances/{instanceId}/restores/{restoreId}", "DescribeFunction"),
    ("POST /instances/{instanceId}/restores", "RestoreFunction"),
    ("POST /instances/{instanceId}/restores/{restoreId}/rollback", "RestoreFunction"),
    ("DELETE /instances/{instanceId}/backups/{backupId}", "DeleteFunction"),
    ("DELETE /instances/{instanceId}/restores/{restoreId}", "DeleteFunction"),
    ("GET /usage", "UsageFunction"),
    // What is called by mistake.
    ("$default", "ListFunction"),
    // Not a route: the one function without any.
    ("", "RetentionSweepFunction"),
];

struct Template(Value);

impl Template {
    fn read() -> Self {
        Self::of("template.yaml")
    }

    fn of(file: &str) -> Self {
        let path = format!("{}/../infra/{file}", env!("CARGO_MANIFEST_DIR"));
        Self(serde_yaml_ng::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    }

    fn resources(&self, kind: &str) -> BTreeMap<&str, &Value> {
        let resources = self.0["Resources"].as_mapping().unwrap();
        let of_kind = resources.iter().filter(|(_, resource)| resource["Type"] == kind);
        of_kind.map(|(name, resource)| (name.as_str().unwrap(), resource)).collect()
    }
}

/// The text of a value, behind its intrinsic function if it has one.
fn text(value: &Value) -> &str {
    match value {
        Value::Tagged(tagged) => text(&tagged.value),
        other => other.as_str().unwrap_or_default(),
    }
}

/// Of two texts, the one where the condition holds, and the other one.
fn chosen(value: &Value) -> (&str, [&str; 2]) {
    let Value::Tagged(choice) = value else { panic!("{value:?} is no choice") };
    let parts = choice.value.as_sequence().unwrap();
    (parts[0].as_str().unwrap(), [text(&parts[1]), text(&parts[2])])
}

/// The functions' roles, by the functions' names.
fn roles(template: &Template) -> BTreeMap<&str, &Value> {
    let roles = template.resources("AWS::IAM::Role");
    let functions = template.resources("AWS::Serverless::Function").into_iter();
    let role_of = |function: &Value| text(&function["Properties"]["Role"]).trim_end_matches(".Arn").to_owned();
    functions.map(|(name, function)| (name, roles[role_of(function).as_str()])).collect()
}

/// What a function's role allows, also under conditions.
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

fn actions(role: &Value) -> BTreeSet<&str> {
    let stated = statements(role).into_iter().flat_map(|statement| match &statement["Action"] {
        Value::Sequence(actions) => actions.iter().collect(),
        action => vec![action],
    });
    stated.map(text).collect()
}

#[test]
fn every_function_may_do_what_it_is_for_and_nothing_more() {
    let template = Template::read();
    let functions = template.resources("AWS::Serverless::Function");
    let roles = roles(&template);
    assert_eq!(roles.values().map(|role| std::ptr::from_ref::<Value>(role)).collect::<BTreeSet<_>>().len(), 9);
    let who = |action: &str| -> BTreeSet<&str> {
        let may = roles.iter().filter(|(_, role)| actions(role).contains(action));
        may.map(|(name, _)| name.trim_end_matches("Function")).collect()
    };
    let writers = ["AutoBackup", "CreateBackup", "Delete", "Instances", "Restore", "RetentionSweep", "Usage"];
    assert_eq!(who("dynamodb:PutItem"), writers.into());
    // The jobs remove what they made when they are cancelled, preflight its probe, the meter what a day has no more.
    let removers = ["CreateBackup", "Delete", "Instances", "Restore", "RetentionSweep", "Usage"];
    assert_eq!(who("s3:DeleteObject"), removers.into());
    assert_eq!(who("s3:PutObjectRetention"), ["CreateBackup"].into());
    for destructive in ["s3:BypassGovernanceRetention", "s3:DeleteObjectVersion", "s3:PutBucketObjectLockConfiguration"]
    {
        assert_eq!(who(destructive), BTreeSet::new(), "{destructive}");
    }
    assert_eq!(who("secretsmanager:GetSecretValue"), ["CreateBackup", "Instances", "Restore"].into());
    assert_eq!(who("scheduler:CreateSchedule"), ["AutoBackup", "RetentionSweep"].into());
    let in_network = functions.iter().filter(|(_, function)| !function["Properties"]["VpcConfig"].is_null());
    let in_network: Vec<_> = in_network.map(|(name, _)| name.trim_end_matches("Function")).collect();
    assert_eq!(in_network, ["CreateBackup", "Instances", "Restore"], "only who talks to Milvus reaches its network");

    for (name, role) in &roles {
        for action in actions(role) {
            assert!(!action.contains('*'), "{name} may {action}");
        }
        for statement in statements(role) {
            let is_anything = statement["Resource"] == "*";
            let has_reason = ["Traces", "Network"].contains(&text(&statement["Sid"]));
            assert!(!is_anything || has_reason, "{name}: {}", text(&statement["Sid"]));
        }
        let delete = statements(role).into_iter().filter(|statement| {
            let actions = format!("{:?}", statement["Action"]);
            actions.contains("s3:DeleteObject")
        });
        for statement in delete {
            let resource = format!("{:?}", statement["Resource"]);
            match *name {
                "InstancesFunction" => assert!(!resource.contains(".Arn}/*\"") && resource.contains("/preflight/*")),
                "RestoreFunction" => {
                    assert!(resource.contains("/milvault-staging/*") && !resource.contains("Snapshot"))
                }
                "UsageFunction" => assert!(resource.contains("/usage/region=*")),
                _ => {}
            }
        }
    }
}

#[test]
fn what_is_stored_or_said_is_encrypted_and_goes_over_tls_only() {
    let template = Template::read();
    for (kind, name) in [
        ("AWS::S3::BucketPolicy", "SnapshotBucketPolicy"),
        ("AWS::SQS::QueuePolicy", "ScheduleDeadLettersPolicy"),
        ("AWS::SNS::TopicPolicy", "FailureTopicPolicy"),
    ] {
        let stated = template.resources(kind)[name]["Properties"]["PolicyDocument"]["Statement"].as_sequence().unwrap();
        let denies = |statement: &&Value| {
            statement["Effect"] == "Deny" && statement["Condition"]["Bool"]["aws:SecureTransport"] == "false"
        };
        assert_eq!(stated.iter().filter(denies).count(), 1, "{name}");
    }
    let table = &template.resources("AWS::DynamoDB::Table")["CatalogTable"]["Properties"];
    assert_eq!(table["SSESpecification"]["SSEEnabled"], true);
    assert_eq!(table["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"], true);
    assert_eq!(text(&table["DeletionProtectionEnabled"]), "DeletionProtection");
    assert_eq!(template.0["Parameters"]["DeletionProtection"]["Default"], "true");
    let bucket = &template.resources("AWS::S3::Bucket")["SnapshotBucket"]["Properties"];
    let blocked = bucket["PublicAccessBlockConfiguration"].as_mapping().unwrap();
    assert!(blocked.len() == 4 && blocked.values().all(|value| value.as_bool() == Some(true)));
    let keys = [
        &bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"][0]["ServerSideEncryptionByDefault"]["KMSMasterKeyID"],
        &table["SSESpecification"]["KMSMasterKeyId"],
        &template.resources("AWS::Logs::LogGroup")["Logs"]["Properties"]["KmsKeyId"],
        &template.resources("AWS::SQS::Queue")["ScheduleDeadLetters"]["Properties"]["KmsMasterKeyId"],
        &template.resources("AWS::SNS::Topic")["FailureTopic"]["Properties"]["KmsMasterKeyId"],
    ];
    for key in keys {
        assert_eq!(chosen(key), ("HasKey", ["KmsKeyArn", "AWS::NoValue"]));
    }
}

#[test]
fn every_exception_from_a_check_says_why() {
    let mut exceptions = 0;
    for file in ["template.yaml", "snapshot-bucket.yaml"] {
        for (name, resource) in Template::of(file).0["Resources"].as_mapping().unwrap() {
            let skipped = resource["Metadata"]["checkov"]["skip"].as_sequence();
            for exception in skipped.into_iter().flatten() {
                assert!(text(&exception["id"]).starts_with("CKV_AWS_"), "{name:?}");
                assert!(text(&exception["comment"]).len() > 40, "{name:?}: {exception:?}");
                exceptions += 1;
            }
        }
    }
    assert_eq!(exceptions, 9 * 4 + 2 * 3, "of functions and of buckets; a further one is to be weighed");
}

#[test]
fn calls_of_the_api_are_logged_without_what_they_said() {
    let template = Template::read();
    let log = &template.resources("AWS::ApiGatewayV2::Stage")["ApiStage"]["Properties"]["AccessLogSettings"];
    assert!(text(&log["DestinationArn"]).ends_with(":log-group:${Logs}"));
    let format: BTreeMap<String, String> = serde_json::from_str(text(&log["Format"])).unwrap();
    assert!(["requestId", "caller", "route", "status"].iter().all(|field| format.contains_key(*field)));
    // Of a query or a header, a value could be anything.
    assert!(format.values().all(|value| !value.contains("query") && !value.contains("header")), "{format:?}");
}

#[test]
fn every_route_of_the_contract_leads_to_its_function_and_asks_for_iam() {
    let template = Template::read();
    let integrations = template.resources("AWS::ApiGatewayV2::Integration");
    let mut found = BTreeSet::new();
    for (name, route) in template.resources("AWS::ApiGatewayV2::Route") {
        let properties = &route["Properties"];
        let (condition, otherwise) = chosen(&properties["AuthorizationType"]);
        assert_eq!((condition, otherwise), ("TakesTokens", ["JWT", "AWS_IAM"]), "{name}");
        let target = text(&properties["Target"]);
        let integration = target.trim_start_matches("integrations/${").trim_end_matches('}');
        let function = text(&integrations[integration]["Properties"]["IntegrationUri"]);
        found.insert((text(&properties["RouteKey"]).to_owned(), function.trim_end_matches(".Arn").to_owned()));
    }
    let expected = ROUTES.iter().filter(|(route, _)| !route.is_empty());
    let expected: BTreeSet<_> = expected.map(|(r, f)| ((*r).to_owned(), (*f).to_owned())).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_function_is_deployed_from_the_binary_of_its_own_crate() {
    let template = Template::read();
    let functions = template.resources("AWS::Serverless::Function");
    let expected: BTreeSet<&str> = ROUTES.iter().map(|(_, function)| *function).collect();
    assert_eq!(functions.keys().copied().collect::<BTreeSet<_>>(), expected);
    for (name, function) in functions {
        let binary = function["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap();
        let manifest = format!("{}/../functions/{binary}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&manifest).exists(), "{name}: {manifest}");
    }
}

#[test]
fn only_the_job_functions_may_invoke_themselves_without_end() {
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
fn deleting_the_stack_keeps_the_catalog_and_the_snapshots() {
    let template = Template::read();
    for (kind, name) in [
        ("AWS::DynamoDB::Table", "CatalogTable"),
        ("AWS::S3::Bucket", "SnapshotBucket"),
        ("AWS::S3::BucketPolicy", "SnapshotBucketPolicy"),
    ] {
        let resource = template.resources(kind)[name];
        assert_eq!(resource["DeletionPolicy"], "Retain", "{name}");
        assert_eq!(resource["UpdateReplacePolicy"], "Retain", "{name}");
    }
}

#[test]
fn a_bucket_in_another_region_is_kept_as_the_stacks_own_is() {
    let (here, elsewhere) = (Template::read(), Template::of("snapshot-bucket.yaml"));
    for (kind, name) in [("AWS::S3::Bucket", "SnapshotBucket"), ("AWS::S3::BucketPolicy", "SnapshotBucketPolicy")] {
        assert_eq!(here.resources(kind)[name], elsewhere.resources(kind)[name], "{name}");
    }
}

#[test]
fn the_scheduler_may_begin_backups_and_do_nothing_else() {
    let template = Template::read();
    let role = template.resources("AWS::IAM::Role")["ScheduleRole"];
    let statements = role["Properties"]["Policies"][0]["PolicyDocument"]["Statement"].as_sequence().unwrap();
    let actions: Vec<&str> = statements.iter().map(|statement| text(&statement["Action"])).collect();
    // The third is for the queue's key, if it has one.
    assert_eq!(actions, ["lambda:InvokeFunction", "sqs:SendMessage", ""]);
    assert!(text(&statements[0]["Resource"]).ends_with("-create-backup"));
    let trusted = &role["Properties"]["AssumeRolePolicyDocument"]["Statement"][0]["Principal"]["Service"];
    assert_eq!(trusted, "scheduler.amazonaws.com");
}

#[test]
fn whoever_wants_to_be_told_of_failures_is_told_of_each_kind_that_there_is() {
    use milvault_model::NoticeKind::{
        AutomaticBackupFailed, AutomaticBackupLate, AutomaticBackupMissed, BackupDamaged, BackupFailed, RestoreFailed,
    };
    let template = Template::read();
    let pattern = &template.resources("AWS::Events::Rule")["FailureRule"]["Properties"]["EventPattern"];
    let told: BTreeSet<&str> = pattern["detail-type"].as_sequence().unwrap().iter().map(text).collect();
    let failures =
        [AutomaticBackupFailed, AutomaticBackupLate, AutomaticBackupMissed, BackupDamaged, BackupFailed, RestoreFailed];
    assert_eq!(told, failures.map(|kind| kind.detail_type()).into());
}

#[test]
fn every_metric_that_an_alarm_or_the_dashboard_looks_at_is_told() {
    let template = Template::read();
    let namespace = "Milvault/${AWS::StackName}";
    let mut looked_at: BTreeSet<String> = template
        .resources("AWS::CloudWatch::Alarm")
        .values()
        .filter(|alarm| text(&alarm["Properties"]["Namespace"]) == namespace)
        .map(|alarm| text(&alarm["Properties"]["MetricName"]).to_owned())
        .collect();
    assert!(looked_at.len() > 5);
    let dashboard = &template.resources("AWS::CloudWatch::Dashboard")["Dashboard"]["Properties"]["DashboardBody"];
    let metric = format!("[\"{namespace}\", \"");
    let named = text(dashboard).split(&metric).skip(1);
    looked_at.extend(named.map(|rest| rest.split('"').next().unwrap().to_owned()));
    let sources = ["shared/runtime/src/metrics.rs", "retention-sweep/src/lib.rs", "usage/src/lib.rs"];
    let told = sources.map(|source| {
        std::fs::read_to_string(format!("{}/../functions/{source}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    });
    for metric in looked_at {
        assert!(told.iter().any(|source| source.contains(&format!("\"{metric}\""))), "{metric}");
    }
}
