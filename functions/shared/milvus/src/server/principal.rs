//! The user that the server answers as.

use milvault_model::{Principal, Visibility};
use milvault_ports::MilvusError;
use milvus::proto::milvus as api;
use tonic::Request;

use super::{Client, DEFAULT_DATABASE, Server};
use crate::{
    errors::{check, from_grpc_status},
    principal::{ROOT, RootCheck, User, filters_lists, unsure},
};

impl Server {
    pub(super) async fn principal(&self) -> Result<Principal, MilvusError> {
        match self.require_no_credentials().await {
            Ok(()) => return Ok(Principal { user: None, visibility: Visibility::Everything }),
            Err(error @ (MilvusError::Unreachable(_) | MilvusError::NotReady(_) | MilvusError::RateLimited(_))) => {
                return Err(error);
            }
            Err(error) if self.login.is_none() => return Err(error),
            Err(_) => {}
        }
        let version = self.known_version().await?;
        let user = self.login.as_ref().and_then(|login| login.known().credentials.user());
        let visibility = match &user {
            _ if !filters_lists(version) => Visibility::Everything,
            None => unsure(
                "the registered token has no user name, so that it can't be found out whether it sees every collection"
                    .to_owned(),
            ),
            Some(name) => match self.user(name).await {
                Ok(user) => user.visibility(version),
                Err(MilvusError::Forbidden(reason) | MilvusError::Refused(reason)) => {
                    unsure(format!("the server doesn't tell what the user '{name}' may see: {reason}"))
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Principal { user, visibility })
    }

    /// Succeeds if the server requires no credentials, because it answers a call without any.
    ///
    /// With authorization on, every call needs credentials (`AuthenticationInterceptor` in
    /// `internal/proxy/authentication_interceptor.go`, 2.3 to 2.6). With it off, credentials are ignored.
    async fn require_no_credentials(&self) -> Result<(), MilvusError> {
        let answer = self.anonymous.clone().list_databases(Request::new(api::ListDatabasesRequest::default())).await;
        check(answer.map_err(|status| from_grpc_status(&status))?.into_inner().status.as_ref(), None)
    }

    /// The facts that decide what a user sees.
    async fn user<'a>(&self, name: &'a str) -> Result<User<'a>, MilvusError> {
        let roles = self.roles_of(Some(name)).await?;
        let mut user = User { name, roles, grants: Vec::new(), root: RootCheck::Checked };
        if user.is_admin() {
            return Ok(user);
        }
        for role in user.counted_roles().cloned().collect::<Vec<_>>() {
            user.grants.extend(self.granted(&role, "*").await?);
        }
        if name == ROOT {
            user.root = match self.roles_of(None).await {
                Ok(_) => RootCheck::PassesUnchecked,
                Err(error) if error.is_refusal() => RootCheck::Checked,
                Err(error) => return Err(error),
            };
        }
        Ok(user)
    }

    /// The roles bound to a user. Without a user, the result is empty, and success means that all users may be listed.
    ///
    /// Every user may ask about themselves (`isCurUserObject` in `internal/proxy/privilege_interceptor.go`, 2.3 to
    /// 2.6).
    async fn roles_of(&self, user: Option<&str>) -> Result<Vec<String>, MilvusError> {
        let message = api::SelectUserRequest {
            user: user.map(|name| api::UserEntity { name: name.to_owned() }),
            include_role_info: user.is_some(),
            ..Default::default()
        };
        let answer = self.call(DEFAULT_DATABASE, message, Client::select_user).await?;
        let of = answer.results.into_iter().find(|result| result.user.as_ref().map(|of| of.name.as_str()) == user);
        Ok(of.map(|result| result.roles.into_iter().map(|role| role.name).collect()).unwrap_or_default())
    }
}
