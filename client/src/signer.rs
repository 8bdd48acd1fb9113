//! Signatures (AWS Signature Version 4) with whatever credentials the usual AWS configuration leads to.

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

/// So long before they expire, credentials are fetched anew: a request is on its way for some of that.
const BEFORE_EXPIRY: Duration = Duration::from_secs(60);

/// What signs.
pub(crate) struct Signer {
    provider: SharedCredentialsProvider,
    /// The API's region, which a signature is for.
    pub(crate) region: String,
    /// A program that hands them out, or a service, isn't asked anew for every call. The cache of the SDK only works
    /// inside its clients.
    kept: Mutex<Option<Credentials>>,
}

impl Signer {
    /// From the environment, a profile, a container or an instance; for this region or else the configuration's.
    pub(crate) async fn load(region: Option<String>) -> Result<Self, Error> {
        let https = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12()).http_client(https);
        if let Some(region) = &region {
            loader = loader.region(Region::new(region.clone()));
        }
        let config = loader.load().await;
        // A variable that is empty counts as a region there.
        let configured = || config.region().map(ToString::to_string).filter(|region| !region.is_empty());
        let region = region.or_else(configured);
        let region = region.ok_or_else(|| Error::Usage("which region? Use --region or set AWS_REGION".to_owned()))?;
        let provider = config.credentials_provider();
        let provider = provider.ok_or_else(|| Error::Credentials("none are configured".to_owned()))?;
        Ok(Self { provider, region, kept: Mutex::default() })
    }

    /// The headers that sign a request.
    pub(crate) async fn headers(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, String)],
        body: &str,
    ) -> Result<Vec<(String, String)>, Error> {
        let bad = |error: &dyn StdError| Error::Credentials(chain(error));
        let now = SystemTime::now();
        let identity = self.credentials(now).await?.into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("execute-api")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| bad(&error))?
            .into();
        let headers = headers.iter().map(|(name, value)| (*name, value.as_str()));
        let request = SignableRequest::new(method, url, headers, SignableBody::Bytes(body.as_bytes()))
            .map_err(|error| bad(&error))?;
        let (signed, _) = sign(request, &parameters).map_err(|error| bad(&error))?.into_parts();
        Ok(signed.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    async fn credentials(&self, now: SystemTime) -> Result<Credentials, Error> {
        let mut kept = self.kept.lock().await;
        if let Some(credentials) = kept.as_ref().filter(|credentials| lasts(credentials, now)) {
            return Ok(credentials.clone());
        }
        let fetched = self.provider.provide_credentials().await.map_err(|error| {
            let profile = std::env::var("AWS_PROFILE").ok().filter(|profile| !profile.is_empty());
            Error::Credentials(with_a_way_out(chain(&error), profile.as_deref()))
        })?;
        Ok(kept.insert(fetched).clone())
    }
}

/// Whether credentials can still be used now, and for a while.
fn lasts(credentials: &Credentials, now: SystemTime) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > now + BEFORE_EXPIRY)
}

/// An error with all its causes, each once: a layer often repeats the one below it.
fn chain(error: &dyn StdError) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(layer) = next {
        let text = layer.to_string().trim().to_owned();
        if !said.iter().any(|before| before.contains(&text)) {
            said.retain(|before| !text.contains(before.as_str()));
            said.push(text);
        }
        next = layer.source();
    }
    said.join(": ")
}

/// What went wrong, and what to do where that is known.
fn with_a_way_out(why: String, profile: Option<&str>) -> String {
    if why.contains("credentials-login") {
        return "sessions of 'aws login' aren't read here; first say \
                eval \"$(aws configure export-credentials --format env)\""
            .to_owned();
    }
    if !why.to_lowercase().contains("sso") {
        return why;
    }
    match profile {
        Some(profile) => format!("{why}\nIs the session over? aws sso login --profile {profile}"),
        None => format!("{why}\nIs the session over? aws sso login"),
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
    fn an_errors_causes_are_all_told_and_each_once() {
        assert_eq!(chain(&layers(&["top", "middle", "bottom"])), "top: middle: bottom");
        assert_eq!(chain(&layers(&["top", "failed: bottom", "bottom"])), "top: failed: bottom");
        assert_eq!(chain(&layers(&["bottom", "failed: bottom", "failed: bottom"])), "failed: bottom");
    }

    #[test]
    fn who_signs_on_elsewhere_is_told_how() {
        assert!(with_a_way_out("no SSO token".to_owned(), Some("work")).ends_with("aws sso login --profile work"));
        assert!(with_a_way_out("no SSO token".to_owned(), None).ends_with("aws sso login"));
        assert!(with_a_way_out("needs the feature credentials-login".to_owned(), None).contains("export-credentials"));
        assert_eq!(with_a_way_out("no such profile".to_owned(), None), "no such profile");
    }

    #[test]
    fn credentials_are_kept_until_shortly_before_they_expire() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let expiring = |expiry| Credentials::new("id", "secret", None, expiry, "test");
        assert!(lasts(&expiring(None), now));
        assert!(lasts(&expiring(Some(now + BEFORE_EXPIRY + Duration::from_secs(1))), now));
        assert!(!lasts(&expiring(Some(now + BEFORE_EXPIRY)), now));
    }
}
