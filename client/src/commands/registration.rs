//! The registration of an instance. It replaces an earlier registration as a whole, and warns about values that it
//! drops.

use milvault_model::Auth;
use milvault_wire::{AsGiven, CheckedInstanceView, Code, InstanceView, Registration, StorageRequest};
use serde_json::{Value, json};

use crate::{
    Error,
    api::{Answer, Api, Condition},
    arguments::Register,
    output::say,
};

/// The defaults of a registration. The root path is the one of Milvus's own configuration file. Its Helm chart has
/// others: `file` with its MinIO, and none with an external S3.
const ROOT_PATH: &str = "files";
const COPY_WORKERS: u8 = 1;

/// Registers an instance, unless another client does at the same time.
pub(super) async fn put(api: &Api, register: &Register) -> Result<Answer<CheckedInstanceView>, Error> {
    let region = register.data_region.as_deref().or(api.region());
    let region = region.ok_or_else(|| Error::Usage("the bucket's region is unknown: use --data-region".to_owned()))?;
    let new = registration(register, region);
    let path = ["instances", register.instance.as_str()];
    let (present, condition) = match api.get_tagged::<InstanceView>(&path).await {
        Ok((present, tag)) => (Some(present), tag.map(Condition::Unchanged)),
        Err(Error::Refused(refusal)) if refusal.is(Code::InstanceNotFound) => (None, Some(Condition::New)),
        Err(error) => return Err(error),
    };
    let answer = api.put(&path, &new, condition).await?;
    for change in present.iter().flat_map(|present| unrequested_changes(present, &new, register)) {
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

/// Describes the values that change because their options weren't given.
fn unrequested_changes(present: &InstanceView, new: &Registration<AsGiven>, register: &Register) -> Vec<String> {
    // As JSON, which has quotes around texts and none around numbers.
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
    let not_given = options.into_iter().zip(before.into_iter().zip(now)).filter(|((_, not_given), _)| *not_given);
    not_given.filter_map(|((option, _), (before, now))| describe_change(option, before?, now)).collect()
}

/// Describes the change of a value because this option wasn't given; `None` if the value stays the same.
fn describe_change(option: &str, before: Value, now: Option<Value>) -> Option<String> {
    match now {
        Some(now) if now == before => None,
        Some(now) => Some(format!("without {option}, the value is now {now}; it was {before}")),
        None => Some(format!("without {option}, the value is now unset; it was {before}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::from_value;

    use super::*;

    /// The instance after this registration.
    fn registered(register: &Register) -> InstanceView {
        let mut fields = json!(registration(register, "eu-west-1"));
        fields["instanceId"] = json!(register.instance);
        from_value(fields).unwrap()
    }

    fn changes(before: &Register, now: &Register) -> Vec<String> {
        unrequested_changes(&registered(before), &registration(now, "eu-west-1"), now)
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
    fn a_new_registration_warns_about_values_that_it_drops() {
        let before = Register {
            secret: Some("arn:of-a-secret".to_owned()),
            copy_workers: Some(4),
            management_endpoint: Some("http://10.0.3.17:9091".to_owned()),
            ..bare()
        };
        assert_eq!(
            changes(&before, &bare()),
            [
                "without --secret, the value is now unset; it was \"arn:of-a-secret\"",
                "without --management-endpoint, the value is now unset; it was \"http://10.0.3.17:9091\"",
                "without --copy-workers, the value is now 1; it was 4",
            ]
        );
    }

    #[test]
    fn a_value_that_is_given_or_unchanged_causes_no_warning() {
        let before = Register { copy_workers: Some(4), ..bare() };
        let now = Register { copy_workers: Some(2), ..bare() };
        let nothing: [&str; 0] = [];
        assert_eq!(changes(&before, &now), nothing);
        assert_eq!(changes(&bare(), &bare()), nothing);
    }
}
