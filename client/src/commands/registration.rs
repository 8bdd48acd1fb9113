//! Registering an instance: a registration replaces the one before as a whole, and says what of that is gone.

use serde_json::{Value, json};

use super::said;
use crate::{
    Error,
    api::{Api, Condition},
    arguments::Register,
    output::say,
};

/// What a registration has where nothing is said. The root path is that of Milvus's own configuration file; its Helm
/// chart has others: `file` beside its MinIO, and none for an S3 of one's own.
const ROOT_PATH: &str = "files";
const COPY_WORKERS: u8 = 1;

/// Registers an instance, unless somebody else does at the same time.
pub(super) async fn put(api: &Api, register: &Register) -> Result<Value, Error> {
    let region = register.data_region.as_deref().or(api.region());
    let region = region.ok_or_else(|| Error::Usage("which region is the bucket in? Use --data-region".to_owned()))?;
    let new = body(register, region);
    let path = ["instances", register.instance.as_str()];
    let (present, condition) = match api.get_tagged(&path).await {
        Ok((present, tag)) => (Some(present), tag.map(Condition::Unchanged)),
        Err(Error::Refused(refusal)) if refusal.code() == Some("INSTANCE_NOT_FOUND") => (None, Some(Condition::New)),
        Err(error) => return Err(error),
    };
    let answer = api.put(&path, &new, condition).await?;
    for change in present.iter().flat_map(|present| unasked(present, &new, register)) {
        say(format!("warning: {change}"));
    }
    Ok(answer)
}

fn body(register: &Register, region: &str) -> Value {
    let root_path = register.root_path.as_deref().unwrap_or(ROOT_PATH);
    said(vec![
        ("name", Some(json!(register.name.as_ref().unwrap_or(&register.instance)))),
        ("endpoint", Some(json!(register.endpoint))),
        ("region", Some(json!(region))),
        ("storage", Some(json!({ "bucket": register.bucket, "rootPath": root_path }))),
        ("auth", register.secret.as_ref().map(|arn| json!({ "secretArn": arn }))),
        ("managementEndpoint", register.management_endpoint.as_ref().map(|url| json!(url))),
        ("copyWorkers", Some(json!(register.copy_workers.unwrap_or(COPY_WORKERS)))),
    ])
}

/// What has changed though nobody said so.
fn unasked(present: &Value, new: &Value, register: &Register) -> Vec<String> {
    let options = [
        ("--name", "/name", register.name.is_none()),
        ("--data-region", "/region", register.data_region.is_none()),
        ("--root-path", "/storage/rootPath", register.root_path.is_none()),
        ("--secret", "/auth/secretArn", register.secret.is_none()),
        ("--management-endpoint", "/managementEndpoint", register.management_endpoint.is_none()),
        ("--copy-workers", "/copyWorkers", register.copy_workers.is_none()),
    ];
    let mut changes = Vec::new();
    for (option, pointer, unsaid) in options {
        let (before, now) = (present.pointer(pointer), new.pointer(pointer));
        let Some(before) = before.filter(|before| unsaid && Some(*before) != now) else { continue };
        changes.push(match now {
            Some(now) => format!("without {option} it is {now} now; it was {before}"),
            None => format!("without {option} there is none now; it was {before}"),
        });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Register {
        Register {
            instance: "orders".to_owned(),
            endpoint: "http://10.0.3.17:19530".to_owned(),
            data_region: None,
            bucket: "milvus-data".to_owned(),
            root_path: None,
            name: None,
            secret: None,
            management_endpoint: None,
            copy_workers: None,
        }
    }

    #[test]
    fn what_a_new_registration_leaves_out_is_told() {
        let before = Register {
            secret: Some("arn:of-a-secret".to_owned()),
            copy_workers: Some(4),
            management_endpoint: Some("http://10.0.3.17:9091".to_owned()),
            ..bare()
        };
        let present = body(&before, "eu-west-1");
        assert_eq!(
            unasked(&present, &body(&bare(), "eu-west-1"), &bare()),
            [
                "without --secret there is none now; it was \"arn:of-a-secret\"",
                "without --management-endpoint there is none now; it was \"http://10.0.3.17:9091\"",
                "without --copy-workers it is 1 now; it was 4",
            ]
        );
    }

    #[test]
    fn what_is_said_to_be_otherwise_or_is_as_before_is_not_told() {
        let before = Register { copy_workers: Some(4), ..bare() };
        let now = Register { copy_workers: Some(2), ..bare() };
        let nothing: [&str; 0] = [];
        assert_eq!(unasked(&body(&before, "eu-west-1"), &body(&now, "eu-west-1"), &now), nothing);
        assert_eq!(unasked(&body(&bare(), "eu-west-1"), &body(&bare(), "eu-west-1"), &bare()), nothing);
    }
}
