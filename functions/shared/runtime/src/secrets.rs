//! Credentials from Secrets Manager, read at each use and kept nowhere.

use async_trait::async_trait;
use aws_config::{Region, SdkConfig};
use aws_sdk_secretsmanager::{Client, config::Builder, error::ProvideErrorMetadata};
use milvault_milvus::SecretSource;

/// Secrets Manager, in whichever region a secret is.
pub(crate) struct SecretsManager {
    pub(crate) config: SdkConfig,
}

#[async_trait]
impl SecretSource for SecretsManager {
    async fn secret(&self, arn: &str) -> Result<String, String> {
        let mut config = Builder::from(&self.config);
        // arn:partition:secretsmanager:region:account:secret:name
        if let Some(region) = arn.split(':').nth(3).filter(|region| !region.is_empty()) {
            config.set_region(Some(Region::new(region.to_owned())));
        }
        let answer = Client::from_conf(config.build()).get_secret_value().secret_id(arn).send().await;
        // Only the error's code: the rest of an answer about a secret has no business in a log.
        let answer = answer.map_err(|error| error.code().unwrap_or("Secrets Manager doesn't answer").to_owned())?;
        answer.secret_string.ok_or_else(|| "it has no text".to_owned())
    }
}
