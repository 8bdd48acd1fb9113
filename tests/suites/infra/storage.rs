//! The catalog, the buckets and what protects them.

use serde_yaml_ng::Value;

use crate::{Template, chosen, text};

#[test]
fn noncurrent_versions_expire_also_after_versioning_is_turned_off() {
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
fn stored_data_and_messages_are_encrypted_and_sent_over_tls_only() {
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
fn a_bucket_in_another_region_is_protected_like_the_stacks_own() {
    let (here, elsewhere) = (Template::read(), Template::of("snapshot-bucket.yaml"));
    for (kind, name) in [("AWS::S3::Bucket", "SnapshotBucket"), ("AWS::S3::BucketPolicy", "SnapshotBucketPolicy")] {
        assert_eq!(here.resources(kind)[name], elsewhere.resources(kind)[name], "{name}");
    }
}
