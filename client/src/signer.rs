//! Signatures (AWS Signature Version 4) with the credentials of the usual AWS configuration.

use std::{
    error::Error as StdError,
    time::{Duration, SystemTime},
};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use tokio::sync::Mutex;

use crate::Error;

/// How long before their expiry credentials are fetched again, because a request takes some time to arrive.
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);

/// Signs requests.
pub(crate) struct Signer {
    provider: SharedCredentialsProvider,
    /// The API's region, which a signature contains.
    pub(crate) region: String,
    /// The credentials in use, so that a credentials program or service isn't called for every request. The SDK's own
    /// cache works only inside its clients.
    cached: Mutex<Option<Credentials>>,
}

impl Signer {
    /// Loads the configuration from the environment, a profile, a container or an instance, for this region or else the
    /// configured one.
    pub(crate) async fn load(region: Option<String>) -> Result<Self, Error> {
        let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https);
        if let Some(region) = &region {
            loader = loader.region(Region::new(region.clone()));
        }
        let config = loader.load().await;
        // The SDK takes an empty variable for a region.
        let configured = || config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        let region = region.or_else(configured);
        let region = region
            .ok_or_else(|| Error::Usage("the API's region is unknown: use --region or set AWS_REGION".to_owned()))?;
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| Error::Credentials("none are configured".to_owned()))?;
        Ok(Self { provider, region, cached: Mutex::default() })
    }

    /// Returns the headers that sign a request.
    pub(crate) async fn headers(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let failed = |error: &dyn StdError| Error::Credentials(chain(error));
        let now = SystemTime::now();
        let identity = self.credentials(now).await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("execute-api")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(&error))?
            .into();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let request = SignableRequest::new(method, url, headers, SignableBody::Bytes(body.as_bytes()))
            .map_err(|error| failed(&error))?;
        let (signed, _) = sign(request, &parameters).map_err(|error| failed(&error))?.into_parts();
        Ok(signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        let mut cached = self.cached.lock().await;
        if let Some(credentials) = cached.as_ref().filter(|credentials| is_valid(credentials, now)) {
            return Ok(credentials.clone());
        }
        let fetched = self.provider.provide_credentials().await.map_err(|error| {
            let profile = std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty());
            Error::Credentials(with_advice(chain(&error), profile.as_deref()))
        })?;
        Ok(cached.insert(fetched).clone())
    }
}

/// Whether credentials are valid now and for a while.
fn is_valid(credentials: &Credentials, now: SystemTime) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > now + BEFORE_EXPIRY)
}

/// Returns an error's message with those of all its causes, each once, because an error often repeats its cause.
fn chain(error: &dyn StdError) -> String {
    let mut messages: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(layer) = next {
        let text = layer.to_string().trim().to_owned();
        if !messages.iter().any(|before| before.contains(&text)) {
            messages.retain(|before| !text.contains(before.as_str()));
            messages.push(text);
        }
        next = layer.source();
    }
    messages.join(": ")
}

/// Adds advice to an error message, if there is any for this error.
fn with_advice(message: String, profile: Option<&str>) -> String {
    if message.contains("credentials-login") {
        return "sessions of 'aws login' are not supported; first run \
                eval \"$(aws configure export-credentials --format env)\""
            .to_owned();
    }
    if !message.to_lowercase().contains("sso") {
        return message;
    }
    match profile {
        Some(profile) => format!("{message}\nThe session may be over: run aws sso login --profile {profile}"),
        None => format!("{message}\nThe session may be over: run aws sso login"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, below) = texts.split_first().unwrap();
        Layer { text, source: (!below.is_empty()).then(|| Box::new(layers(below))) }
    }

    #[test]
    fn an_error_has_the_message_of_each_cause_once() {
        assert_eq!(chain(&layers(&["top", "middle", "bottom"])), "top: middle: bottom");
        assert_eq!(chain(&layers(&["top", "failed: bottom", "bottom"])), "top: failed: bottom");
        assert_eq!(chain(&layers(&["bottom", "failed: bottom", "failed: bottom"])), "failed: bottom");
    }

    #[test]
    fn errors_of_sign_on_sessions_have_advice() {
        assert!(with_advice("no SSO token".to_owned(), Some("work")).ends_with("aws sso login --profile work"));
        assert!(with_advice("no SSO token".to_owned(), None).ends_with("aws sso login"));
        assert!(with_advice("needs the feature credentials-login".to_owned(), None).contains("export-credentials"));
        assert_eq!(with_advice("no such profile".to_owned(), None), "no such profile");
    }

    #[test]
    fn credentials_are_kept_until_shortly_before_they_expire() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let expiring = |expiry| Credentials::new("id", "secret", None, expiry, "test");
        assert!(is_valid(&expiring(None), now));
        assert!(is_valid(&expiring(Some(now + BEFORE_EXPIRY + Duration::from_secs(1))), now));
        assert!(!is_valid(&expiring(Some(now + BEFORE_EXPIRY)), now));
    }
}
