//! Who we are to a server: read from a secret, and read again when the server doesn't know us by it any more.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use base64::{Engine, prelude::BASE64_STANDARD};
use milvault_ports::MilvusError;
use serde::Deserialize;
use tonic::codegen::http::HeaderValue;

/// Why a secret can't be had: without anything of its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Where it is kept doesn't answer, or asks to come again later: worth trying again.
    #[error("can't be read now: {0}")]
    Unavailable(String),
    /// It isn't there, or not for us to read.
    #[error("can't be read: {0}")]
    Refused(String),
    /// It isn't one that a server could be told.
    #[error("can't be used: {0}")]
    Malformed(String),
}

impl SecretError {
    /// What it means to who wants to connect.
    fn of(self, arn: &str) -> MilvusError {
        let reason = format!("secret {arn} {self}");
        match self {
            Self::Unavailable(_) => MilvusError::Unreachable(reason),
            Self::Refused(_) | Self::Malformed(_) => MilvusError::Unauthenticated(reason),
        }
    }
}

/// Where credentials are kept.
#[async_trait]
pub trait SecretSource: Send + Sync {
    /// The secret's text.
    ///
    /// # Errors
    /// Why it can't be read, and whether another try may do.
    async fn secret(&self, arn: &str) -> Result<String, SecretError>;
}

/// What a secret says.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub(crate) enum Credentials {
    Password { username: String, password: String },
    Token { token: String },
}

impl Credentials {
    /// One text for either, as gRPC (in base64) and REST (`Bearer`) take it.
    pub(crate) fn token(&self) -> String {
        match self {
            Self::Password { username, password } => format!("{username}:{password}"),
            Self::Token { token } => token.clone(),
        }
    }

    /// The user's name; an API key has none. A token with a colon is a name and a password to the server too
    /// (`AuthenticationInterceptor` in `internal/proxy/authentication_interceptor.go`).
    pub(crate) fn user(&self) -> Option<String> {
        match self {
            Self::Password { username, .. } => Some(username.clone()),
            Self::Token { token } => token.split_once(':').map(|(user, _)| user.to_owned()),
        }
    }

    /// The header of a gRPC call: the server decodes either form, `user:password` or an API key.
    fn header(&self) -> Option<HeaderValue> {
        let mut value: HeaderValue = BASE64_STANDARD.encode(self.token()).parse().ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

/// Credentials that can be sent.
pub(crate) struct Known {
    pub(crate) credentials: Credentials,
    pub(crate) header: HeaderValue,
}

/// What a connection's calls carry. All of them see at once that it has changed.
pub(crate) struct Login {
    secrets: Arc<dyn SecretSource>,
    arn: String,
    known: Mutex<Arc<Known>>,
    /// Who reads the secret again; the others that were refused wait for what it finds.
    renewing: tokio::sync::Mutex<()>,
    is_refused: AtomicBool,
}

impl Login {
    /// Reads the secret.
    ///
    /// # Errors
    /// [`MilvusError::Unreachable`] if it can't be read now, [`MilvusError::Unauthenticated`] if never.
    pub(crate) async fn read(secrets: Arc<dyn SecretSource>, arn: &str) -> Result<Self, MilvusError> {
        let known = read(secrets.as_ref(), arn).await.map_err(|error| error.of(arn))?;
        Ok(Self {
            secrets,
            arn: arn.to_owned(),
            known: Mutex::new(Arc::new(known)),
            renewing: tokio::sync::Mutex::default(),
            is_refused: AtomicBool::new(false),
        })
    }

    pub(crate) fn known(&self) -> Arc<Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the server refuses what is known, so that a new connection has to read the secret anew.
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.load(Ordering::Relaxed)
    }

    pub(crate) fn refuse(&self) {
        self.is_refused.store(true, Ordering::Relaxed);
    }

    /// What the server may know us by now that it has refused `used`: nothing, if that is still what the secret says.
    ///
    /// # Errors
    /// When the secret can't be read now: whether the refusal is final isn't known.
    pub(crate) async fn renewed(&self, used: &Arc<Known>) -> Result<Option<Arc<Known>>, MilvusError> {
        let _alone = self.renewing.lock().await;
        let known = self.known();
        if !Arc::ptr_eq(&known, used) {
            return Ok(Some(known));
        }
        if self.is_refused() {
            return Ok(None);
        }
        match read(self.secrets.as_ref(), &self.arn).await {
            Ok(read) if read.credentials != used.credentials => {
                let read = Arc::new(read);
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = read.clone();
                Ok(Some(read))
            }
            Err(error @ SecretError::Unavailable(_)) => Err(error.of(&self.arn)),
            // What was read before may be refused, and there is nothing else.
            Ok(_) | Err(_) => {
                self.refuse();
                Ok(None)
            }
        }
    }
}

async fn read(secrets: &dyn SecretSource, arn: &str) -> Result<Known, SecretError> {
    let text = secrets.secret(arn).await?;
    let credentials: Credentials = serde_json::from_str(&text).map_err(|_| {
        SecretError::Malformed("it is neither {\"username\": …, \"password\": …} nor {\"token\": …}".to_owned())
    })?;
    let header = credentials.header();
    let header = header.ok_or_else(|| SecretError::Malformed("it can't be sent in a header".to_owned()))?;
    Ok(Known { credentials, header })
}
