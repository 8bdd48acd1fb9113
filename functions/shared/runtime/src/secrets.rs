//! Credentials from Secrets Manager, which are stored nowhere else.

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_sdk_secretsmanager::{
    error::{ProvideErrorMetadata, SdkError},
    operation::get_secret_value::GetSecretValueError,
};
use milvault_milvus::{SecretError, SecretSource};

/// Secrets Manager in the region of each secret.
pub(crate) struct SecretsManager {
    pub(crate) config: SdkConfig,
}

#[async_trait]
impl SecretSource for SecretsManager {
    async fn secret(&self, arn: &str) -> Result<String, SecretError> {
        // arn:partition:secretsmanager:region:account:secret:name
        let region = arn.split(':').nth(3).filter(|region| !region.is_empty());
        let client = client_in(&self.config, region.map(|region| Region::new(region.to_owned())));
        let answer = client.get_secret_value().secret_id(arn).send().await.map_err(meaning)?;
        answer.secret_string.ok_or_else(|| SecretError::Malformed("it has no text".to_owned()))
    }
}

/// A client for Secrets Manager in the region of a secret.
pub(crate) fn client_in(config: &SdkConfig, region: Option<Region>) -> aws_sdk_secretsmanager::Client {
    let mut builder = aws_sdk_secretsmanager::config::Builder::from(config);
    if region.is_some() {
        builder.set_region(region);
    }
    aws_sdk_secretsmanager::Client::from_conf(builder.build())
}

/// The meaning of an error. Throttling, faults, missing answers and unknown errors may be temporary, so they can be
/// retried.
///
/// Only the error's code is kept, because the rest of an answer about a secret must not be logged.
fn meaning<R>(error: SdkError<GetSecretValueError, R>) -> SecretError {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code);
    let reason = code.unwrap_or("Secrets Manager doesn't answer").to_owned();
    match code {
        Some(
            "AccessDeniedException"
            | "ResourceNotFoundException"
            // This includes a secret that is scheduled for deletion.
            | "InvalidRequestException"
            | "InvalidParameterException"
            | "ValidationException"
            // The secret's encryption key may be disabled or deleted.
            | "DecryptionFailure",
        ) => SecretError::Refused(reason),
        _ => SecretError::Unavailable(reason),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_secretsmanager::error::ErrorMetadata;

    use super::*;

    #[test]
    fn what_may_pass_is_told_from_what_stays() {
        let refusal = |code: &str| {
            let metadata = ErrorMetadata::builder().code(code).message("of our account's secret").build();
            meaning(SdkError::service_error(GetSecretValueError::generic(metadata), ()))
        };
        for code in
            ["AccessDeniedException", "ResourceNotFoundException", "InvalidRequestException", "DecryptionFailure"]
        {
            assert_eq!(refusal(code), SecretError::Refused(code.to_owned()));
        }
        for code in ["ThrottlingException", "InternalServiceError", "ServiceUnavailable", "ExpiredTokenException"] {
            assert_eq!(refusal(code), SecretError::Unavailable(code.to_owned()));
        }
        let silence: SdkError<GetSecretValueError, ()> = SdkError::timeout_error("no answer in time");
        assert!(matches!(meaning(silence), SecretError::Unavailable(_)));
    }
}
