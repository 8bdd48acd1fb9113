//! Users, roles, privilege groups and grants.

use milvault_model::{Capability, Grant};
use milvault_ports::MilvusError;
use milvus::proto::milvus as api;

use super::{Client, DEFAULT_DATABASE, Server};
use crate::{
    access::{self, missing},
    errors::check,
};

impl Server {
    pub(super) async fn access_control(&self) -> Result<Option<String>, MilvusError> {
        if !self.capabilities().await?.has(Capability::Rbac) {
            return Ok(None);
        }
        Ok(Some(access::encode(&self.rbac().await?)))
    }

    pub(super) async fn restore_access_control(&self, captured: &str) -> Result<Vec<String>, MilvusError> {
        if !self.capabilities().await?.has(Capability::Rbac) {
            return Err(MilvusError::Refused("it has no calls for them".to_owned()));
        }
        let (missing, names) = missing(access::decode(captured)?, &self.rbac().await?);
        if names.is_empty() {
            return Ok(names);
        }
        let message = api::RestoreRbacMetaRequest { rbac_meta: Some(missing), ..Default::default() };
        self.call(DEFAULT_DATABASE, message, Client::restore_rbac).await?;
        Ok(names)
    }

    async fn rbac(&self) -> Result<api::RbacMeta, MilvusError> {
        let message = api::BackupRbacMetaRequest::default();
        let answer = self.call(DEFAULT_DATABASE, message, Client::backup_rbac).await?;
        Ok(answer.rbac_meta.unwrap_or_default())
    }

    pub(super) async fn roles(&self) -> Result<Vec<String>, MilvusError> {
        let message = api::SelectRoleRequest::default();
        let answer = self.call(DEFAULT_DATABASE, message, Client::select_role).await?;
        Ok(answer.results.into_iter().filter_map(|result| result.role).map(|role| role.name).collect())
    }

    /// A role's grants in a database, or in all databases (`*`). Every user may ask about their own roles
    /// (`isSelectMyRoleGrants` in `internal/proxy/privilege_interceptor.go`, 2.4 to 2.6).
    ///
    /// The request names no object. If it did, the server would omit privilege groups, which it keeps on another kind
    /// of object (`OperatePrivilege` in `internal/rootcoord/root_coord.go`, 2.5), and would look for aliases first
    /// (2.6).
    pub(super) async fn granted(&self, role: &str, database: &str) -> Result<Vec<api::GrantEntity>, MilvusError> {
        let entity = api::GrantEntity {
            role: Some(api::RoleEntity { name: role.to_owned(), ..Default::default() }),
            db_name: database.to_owned(),
            ..Default::default()
        };
        let message = api::SelectGrantRequest { entity: Some(entity), ..Default::default() };
        Ok(self.call(DEFAULT_DATABASE, message, Client::select_grant).await?.entities)
    }

    pub(super) async fn grant(&self, grant: &Grant) -> Result<(), MilvusError> {
        let entity = access::entity(grant);
        let (role, grantor) = (entity.role.clone(), entity.grantor.clone());
        let message = api::OperatePrivilegeRequest {
            entity: Some(entity),
            r#type: api::OperatePrivilegeType::Grant as i32,
            ..Default::default()
        };
        let status = self.ask(DEFAULT_DATABASE, message, Client::operate_privilege).await?;
        match check(Some(&status), None) {
            // It is a group of privileges, which needs the newer call (`isValidPrivilege` in
            // `internal/rootcoord/root_coord.go`, 2.5). The newer call has no kind of object, and derives the kind of
            // any other privilege from the privilege itself.
            Err(MilvusError::Refused(_)) if grant.object == "Global" => {}
            result => return result,
        }
        let message = api::OperatePrivilegeV2Request {
            role,
            grantor,
            r#type: api::OperatePrivilegeType::Grant as i32,
            db_name: grant.database.clone(),
            collection_name: grant.name.clone(),
            ..Default::default()
        };
        self.call(DEFAULT_DATABASE, message, Client::operate_privilege_v2).await.map(drop)
    }
}
