//! Users, roles and grants.

use milvus::proto::{
    common::Status,
    milvus::{self as api},
};
use tonic::Request;

use super::{
    Service,
    reply::{Answer, answer, done, permit, ready, refuse, status},
};
use crate::{
    Line,
    faults::strikes,
    state::State,
    users::{Grant, Role},
};

impl Service {
    pub(super) async fn select_user(
        &self,
        request: Request<api::SelectUserRequest>,
    ) -> Answer<api::SelectUserResponse> {
        let state = ready!(self, api::SelectUserResponse);
        let name = request.get_ref().user.as_ref().map(|user| user.name.as_str());
        permit!(state, request, "default", "User", name.unwrap_or("*"), "SelectUser");
        answer(api::SelectUserResponse { status: done(), results: state.users.select(name) })
    }

    pub(super) async fn select_grant(
        &self,
        request: Request<api::SelectGrantRequest>,
    ) -> Answer<api::SelectGrantResponse> {
        let state = ready!(self, api::SelectGrantResponse);
        let entity = request.get_ref().entity.clone().unwrap_or_default();
        let role = entity.role.unwrap_or_default().name;
        if !state.users.is_own_role(state.line, request.metadata(), &role) {
            permit!(state, request, "default", "Global", "*", "SelectOwnership");
        }
        let entities = state.users.grants(state.line, &role, &entity.db_name);
        answer(api::SelectGrantResponse { status: done(), entities })
    }

    pub(super) async fn select_role(
        &self,
        request: Request<api::SelectRoleRequest>,
    ) -> Answer<api::SelectRoleResponse> {
        let state = ready!(self, api::SelectRoleResponse);
        permit!(state, request, "default", "Global", "*", "SelectOwnership");
        let result = |role: &Role| api::RoleResult { role: Some(role.entity()), ..Default::default() };
        let results = state.users.roles.iter().map(result).collect();
        answer(api::SelectRoleResponse { status: done(), results })
    }

    /// `OperatePrivilege` in `internal/rootcoord/root_coord.go`: that the object exists isn't asked for, and what is
    /// granted already isn't an error.
    pub(super) async fn operate_privilege(&self, request: Request<api::OperatePrivilegeRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        permit!(state, request, "default", "Global", "*", "ManageOwnership");
        let (role, grant) = Grant::from_entity(request.into_inner().entity.unwrap_or_default());
        if grant.is_group() {
            let reason = format!("can not operate the built-in privilege group [{}]", grant.privilege);
            refuse!(Status, status(1100, 1, &reason));
        }
        answer(state.grant(&role, grant)?)
    }

    pub(super) async fn operate_privilege_v2(
        &self,
        request: Request<api::OperatePrivilegeV2Request>,
    ) -> Answer<Status> {
        let mut state = ready!(self, Status);
        if !state.line.has_privilege_groups() {
            return Err(tonic::Status::unimplemented("unknown method OperatePrivilegeV2"));
        }
        permit!(state, request, "default", "Global", "*", "ManageOwnership");
        let api::OperatePrivilegeV2Request { role, grantor, db_name, collection_name, .. } = request.into_inner();
        let entity = api::GrantEntity { role, grantor, db_name, object_name: collection_name, ..Default::default() };
        let (role, mut grant) = Grant::from_entity(entity);
        grant.object = if grant.is_group() { "Global" } else { "Collection" }.to_owned();
        answer(state.grant(&role, grant)?)
    }

    pub(super) async fn backup_rbac(
        &self,
        request: Request<api::BackupRbacMetaRequest>,
    ) -> Answer<api::BackupRbacMetaResponse> {
        let state = ready!(self, api::BackupRbacMetaResponse);
        if state.line < Line::V2_4 {
            return Err(tonic::Status::unimplemented("unknown method BackupRBAC"));
        }
        permit!(state, request, "default", "Global", "*", "BackupRBAC");
        answer(api::BackupRbacMetaResponse { status: done(), rbac_meta: Some(state.users.meta()) })
    }

    pub(super) async fn restore_rbac(&self, request: Request<api::RestoreRbacMetaRequest>) -> Answer<Status> {
        let mut state = ready!(self, Status);
        if state.line < Line::V2_4 {
            return Err(tonic::Status::unimplemented("unknown method RestoreRBAC"));
        }
        let back = request.into_inner().rbac_meta.unwrap_or_default();
        // `internal/rootcoord/meta_table.go`, `RestoreRBAC`.
        let is_known = |role: &&api::RoleEntity| state.users.roles.iter().any(|known| known.name == role.name);
        if let Some(known) = back.roles.iter().find(is_known) {
            refuse!(Status, status(1, 1, &format!("role [{}] already exists", known.name)));
        }
        state.users.roles.extend(back.roles.into_iter().map(|role| Role { name: role.name, grants: Vec::new() }));
        for (role, grant) in back.grants.into_iter().map(Grant::from_entity) {
            state.users.grant(&role, grant);
        }
        answer(Status::default())
    }
}

impl State {
    /// Gives a role a grant, for a caller who may.
    #[expect(clippy::result_large_err, reason = "the type that the server's trait wants")]
    pub(super) fn grant(&mut self, role: &str, grant: Grant) -> Result<Status, tonic::Status> {
        if self.faults.grant_refused.as_ref() == Some(&grant.privilege) {
            return Ok(status(1100, 1, &format!("the privilege {} can't be granted", grant.privilege)));
        }
        if !self.users.grant(role, grant) {
            return Ok(status(1100, 1, &format!("the role \"{role}\" does not exist")));
        }
        self.done()
    }

    /// The answer of a finished call, unless it is lost.
    #[expect(clippy::result_large_err, reason = "the type that the server's trait wants")]
    pub(super) fn done(&mut self) -> Result<Status, tonic::Status> {
        match strikes(&mut self.faults.unanswered) {
            true => Err(tonic::Status::unavailable("the connection was lost")),
            false => Ok(Status::default()),
        }
    }
}
