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

/// Everything that a value names, behind its intrinsic functions: of a choice, what either branch does.
fn texts(value: &Value) -> Vec<String> {
    match value {
        // What is put into the text is the same resources in other buckets.
        Value::Tagged(tagged) if tagged.tag == "Sub" && tagged.value.is_sequence() => texts(&tagged.value[0]),
        Value::Tagged(tagged) if tagged.tag == "GetAtt" => vec![format!("${{{}}}", text(&tagged.value))],
        Value::Tagged(tagged) if tagged.tag == "Ref" => vec![format!("${{{}}}", text(&tagged.value))],
        Value::Tagged(tagged) if tagged.tag == "If" => {
            let branches = tagged.value.as_sequence().unwrap();
            branches[1..].iter().flat_map(texts).collect()
        }
        // The separator first.
        Value::Tagged(tagged) if tagged.tag == "Split" || tagged.tag == "Join" => texts(&tagged.value[1]),
        Value::Tagged(tagged) => texts(&tagged.value),
        Value::Sequence(values) => values.iter().flat_map(texts).collect(),
        other => other.as_str().unwrap_or_default().split(',').map(str::to_owned).collect(),
    }
}

const TABLE: &str = "${CatalogTable.Arn}";
/// The stack's snapshot bucket, and after it those in other regions.
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
/// Who meets S3, where other keys than the stack's are used.
const STORES: &[&str] = &["CreateBackup", "Delete", "Describe", "Instances", "Restore", "RetentionSweep"];
const JOBS: &[&str] = &["CreateBackup", "Delete", "Restore", "RetentionSweep"];
const IN_NETWORK: &[&str] = &["CreateBackup", "Instances", "Restore"];

/// Who may do what to which resources: all that the functions' code uses.
const GRANTS: &[(&[&str], &[&str], &[&str])] = &[
    (EVERYONE, &["logs:CreateLogStream", "logs:PutLogEvents"], &["${Logs.Arn}"]),
    (EVERYONE, &["xray:PutTraceSegments", "xray:PutTelemetryRecords"], &["*"]),
    (EVERYONE, &["kms:Decrypt"], &["${KmsKeyArn}"]),
    // A key for what is written; who only reads needs none.
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

#[test]
fn every_function_may_do_what_it_is_for_to_what_it_is_for_and_nothing_more() {
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
fn data_buckets_of_strangers_are_neither_read_nor_written() {
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
fn the_meter_writes_nothing_of_the_catalog_but_accounts_and_usage() {
    let template = Template::read();
    let writes = statements(roles(&template)["UsageFunction"])
        .into_iter()
        .filter(|statement| texts(&statement["Action"]).contains(&"dynamodb:PutItem".to_owned()));
    let [ledger] = writes.collect::<Vec<_>>()[..] else { panic!("one statement") };
    let keys = texts(&ledger["Condition"]["ForAllValues:StringLike"]["dynamodb:LeadingKeys"]);
    assert_eq!(keys, ["ACCOUNT#*", "USAGE#*"], "as in functions/shared/dynamodb/src/keys.rs");
}

#[test]
fn code_can_not_use_what_lambda_needs_to_reach_the_network() {
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
fn what_has_to_be_said_has_no_default() {
    let template = Template::read();
    let endpoints = &template.0["Parameters"]["AllowedEndpoints"];
    assert!(endpoints["Default"].is_null() && endpoints["MinLength"] == 1, "{endpoints:?}");
    let rule = &template.0["Rules"]["TokensAreForSomeone"];
    assert_eq!(texts(&rule["RuleCondition"]), ["${JwtIssuer}", ""]);
    assert_eq!(texts(&rule["Assertions"][0]["Assert"]), ["${JwtAudience}", ""]);
}

#[test]
fn conditions_compare_texts_which_is_what_parameters_are() {
    for file in ["template.yaml", "snapshot-bucket.yaml"] {
        for (name, condition) in Template::of(file).0["Conditions"].as_mapping().unwrap() {
            let mut value = condition;
            while let Value::Tagged(tagged) = value {
                if tagged.tag == "Equals" {
                    assert!(tagged.value[1].is_string(), "{file}: {name:?}");
                }
                value = if tagged.value.is_sequence() { &tagged.value[0] } else { &tagged.value };
            }
        }
    }
}

#[test]
fn lambdas_own_lines_of_the_log_are_json_too() {
    let logging = &Template::read().0["Globals"]["Function"]["LoggingConfig"];
    assert_eq!((text(&logging["LogGroup"]), text(&logging["LogFormat"])), ("Logs", "JSON"));
}

#[test]
fn what_versions_hide_goes_also_once_there_are_no_versions_any_more() {
    for file in ["template.yaml", "snapshot-bucket.yaml"] {
        let template = Template::of(file);
        let rules =
            &template.resources("AWS::S3::Bucket")["SnapshotBucket"]["Properties"]["LifecycleConfiguration"]["Rules"];
        let rules = rules.as_sequence().unwrap();
        assert!(rules.iter().all(|rule| rule["Status"] == "Enabled"), "{file}: none depends on a condition");
        let hidden = rules.iter().find(|rule| rule["Id"] == "noncurrent-versions").unwrap();
        assert!(!hidden["NoncurrentVersionExpiration"]["NoncurrentDays"].is_null(), "{file}");
    }
}

#[test]
fn the_dashboard_and_the_alarms_see_what_callers_and_the_scheduler_do() {
    let template = Template::read();
    let dashboard = &template.resources("AWS::CloudWatch::Dashboard")["Dashboard"]["Properties"]["DashboardBody"];
    let dashboard: serde_json::Value = serde_json::from_str(text(dashboard)).unwrap();
    let mut shown = BTreeSet::new();
    for widget in dashboard["widgets"].as_array().unwrap() {
        for metric in widget["properties"]["metrics"].as_array().unwrap() {
            let part = |index: usize| metric[index].as_str().unwrap_or_default().to_owned();
            shown.insert((part(0), part(1)));
            if let Some(search) = metric[0]["expression"].as_str() {
                // With a stroke in it, only a name in quotes is one.
                assert!(search.starts_with("SEARCH('{\"Milvault/${AWS::StackName}\",InstanceId} "), "{search}");
            }
        }
    }
    let alarms = template.resources("AWS::CloudWatch::Alarm");
    for (alarm, namespace, metric, dimension) in [
        ("ApiErrorsAlarm", "AWS/ApiGateway", "5xx", "Api"),
        ("DeadLettersAlarm", "AWS/SQS", "NumberOfMessagesSent", "ScheduleDeadLetters.QueueName"),
        ("ThrottledReadsAlarm", "AWS/DynamoDB", "ReadThrottleEvents", "CatalogTable"),
        ("ThrottledWritesAlarm", "AWS/DynamoDB", "WriteThrottleEvents", "CatalogTable"),
    ] {
        let found = &alarms[alarm]["Properties"];
        assert_eq!((text(&found["Namespace"]), text(&found["MetricName"])), (namespace, metric), "{alarm}");
        assert_eq!(text(&found["Dimensions"][0]["Value"]), dimension, "{alarm}");
        assert!(shown.contains(&(namespace.to_owned(), metric.to_owned())), "{metric} isn't on the dashboard");
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
fn what_cargo_builds_by_itself_is_the_functions_so_that_cargo_lambda_takes_nothing_else_for_one() {
    let mut cargo = std::process::Command::new(env!("CARGO"));
    // In a member's folder it is the member that is built by itself.
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let asked = cargo.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]).output().unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&asked.stdout).unwrap();
    let default = metadata["workspace_default_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter().filter(|package| default.contains(&package["id"]));
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let binaries: BTreeSet<&str> = targets
        .filter(|target| target["kind"].as_array().unwrap().contains(&"bin".into()))
        .map(|target| target["name"].as_str().unwrap())
        .collect();
    let template = Template::read();
    let functions = template.resources("AWS::Serverless::Function").into_values();
    let deployed = functions.map(|function| function["Metadata"]["BuildProperties"]["Binary"].as_str().unwrap());
    assert_eq!(binaries, deployed.collect());
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
        AutomaticBackupFailed, AutomaticBackupLate, AutomaticBackupMissed, BackupDamaged, BackupFailed,
        BackupIncomplete, RestoreFailed, RestoreIncomplete,
    };
    let template = Template::read();
    let pattern = &template.resources("AWS::Events::Rule")["FailureRule"]["Properties"]["EventPattern"];
    let told: BTreeSet<&str> = pattern["detail-type"].as_sequence().unwrap().iter().map(text).collect();
    let failures = [
        AutomaticBackupFailed,
        AutomaticBackupLate,
        AutomaticBackupMissed,
        BackupDamaged,
        BackupFailed,
        BackupIncomplete,
        RestoreFailed,
        RestoreIncomplete,
    ];
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
