//! Registering an instance: a registration replaces the one before as a whole, and says what of that is gone.

use milvault_model::Auth;
use milvault_wire::{AsGiven, CheckedInstanceView, Code, InstanceView, Registration, StorageRequest};
use serde_json::{Value, json};

use crate::{
    Error,
    api::{Answer, Api, Condition},
    arguments::Register,
    output::say,
};

/// What a registration has where nothing is said. The root path is that of Milvus's own configuration file; its Helm
/// chart has others: `file` beside its MinIO, and none for an S3 of one's own.
const ROOT_PATH: &str = "files";
const COPY_WORKERS: u8 = 1;

/// Registers an instance, unless somebody else does at the same time.
pub(super) async fn put(api: &Api, register: &Register) -> Result<Answer<CheckedInstanceView>, Error> {
    let region = register.data_region.as_deref().or(api.region());
    let region = region.ok_or_else(|| Error::Usage("which region is the bucket in? Use --data-region".to_owned()))?;
    let new = registration(register, region);
    let path = ["instances", register.instance.as_str()];
    let (present, condition) = match api.get_tagged::<InstanceView>(&path).await {
        Ok((present, tag)) => (Some(present), tag.map(Condition::Unchanged)),
        Err(Error::Refused(refusal)) if refusal.is(Code::InstanceNotFound) => (None, Some(Condition::New)),
        Err(error) => return Err(error),
    };
    let answer = api.put(&path, &new, condition).await?;
    for change in present.iter().flat_map(|present| unasked(present, &new, register)) {
        say(format!("warning: {change}"));
    }
    Ok(answer)
}

fn registration(register: &Register, region: &str) -> Registration<AsGiven> {
    let root_path = register.root_path.as_deref().unwrap_or(ROOT_PATH);
    Registration {
        name: register.name.as_ref().unwrap_or(&register.instance).clone(),
        endpoint: register.endpoint.clone(),
        region: region.to_owned(),
        storage: Some(StorageRequest { bucket: register.bucket.clone(), root_path: Some(root_path.to_owned()) }),
        auth: register.secret.clone().map(|secret_arn| Auth { secret_arn }),
        management_endpoint: register.management_endpoint.clone(),
        copy_workers: Some(register.copy_workers.unwrap_or(COPY_WORKERS)),
    }
}

/// What has changed though nobody said so.
fn unasked(present: &InstanceView, new: &Registration<AsGiven>, register: &Register) -> Vec<String> {
    // As JSON, which has texts in quotes and numbers without.
    let before = [
        Some(json!(present.name)),
        Some(json!(present.region)),
        present.storage.as_ref().map(|storage| json!(storage.root_path)),
        present.auth.as_ref().map(|auth| json!(auth.secret_arn)),
        present.management_endpoint.as_ref().map(|endpoint| json!(endpoint)),
        Some(json!(present.copy_workers)),
    ];
    let now = [
        Some(json!(new.name)),
        Some(json!(new.region)),
        new.storage.as_ref().map(|storage| json!(storage.root_path)),
        new.auth.as_ref().map(|auth| json!(auth.secret_arn)),
        new.management_endpoint.as_ref().map(|endpoint| json!(endpoint)),
        new.copy_workers.map(|workers| json!(workers)),
    ];
    let options = [
        ("--name", register.name.is_none()),
        ("--data-region", register.data_region.is_none()),
        ("--root-path", register.root_path.is_none()),
        ("--secret", register.secret.is_none()),
        ("--management-endpoint", register.management_endpoint.is_none()),
        ("--copy-workers", register.copy_workers.is_none()),
    ];
    let unsaid = options.into_iter().zip(before.into_iter().zip(now)).filter(|((_, unsaid), _)| *unsaid);
    unsaid.filter_map(|((option, _), (before, now))| change(option, before?, now)).collect()
}

/// What has changed, without an option that would have said so.
fn change(option: &str, before: Value, now: Option<Value>) -> Option<String> {
    match now {
        Some(now) if now == before => None,
        Some(now) => Some(format!("without {option} it is {now} now; it was {before}")),
        None => Some(format!("without {option} there is none now; it was {before}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    /// What is there once this was registered.
    fn registered(register: &Register) -> InstanceView {
        let mut fields = json!(registration(register, "eu-west-1"));
        fields["instanceId"] = json!(register.instance);
        from_value(fields).unwrap()
    }

    fn changes(before: &Register, now: &Register) -> Vec<String> {
        unasked(&registered(before), &registration(now, "eu-west-1"), now)
    }

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
        assert_eq!(
            changes(&before, &bare()),
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
        assert_eq!(changes(&before, &now), nothing);
        assert_eq!(changes(&bare(), &bare()), nothing);
    }
}
