//! Partitions, and loading into memory.

use milvault_model::{CollectionName, Loaded, PartitionCapture};
use milvault_ports::{MilvusError, Pace};
use milvus::proto::{common::LoadState, milvus as api};

use super::{Client, Server, answer::Answer};
use crate::errors::check;

impl Server {
    /// The partitions by name, either all of them or the loaded ones.
    pub(super) async fn partitions(
        &self,
        name: &CollectionName,
        which: api::ShowType,
    ) -> Result<Vec<PartitionCapture>, MilvusError> {
        #[expect(deprecated, reason = "the only call of the 2.3 line that tells the loaded partitions from the others")]
        let message = api::ShowPartitionsRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            r#type: which as i32,
            ..Default::default()
        };
        let answer = self.call_for(name, message, Client::show_partitions).await?;
        let pairs = answer.partition_names.into_iter().zip(answer.partition_i_ds);
        let mut partitions: Vec<_> = pairs.map(|(name, id)| PartitionCapture { name, id }).collect();
        partitions.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(partitions)
    }

    pub(super) async fn loaded(
        &self,
        name: &CollectionName,
        id: i64,
        all: &[PartitionCapture],
    ) -> Result<Loaded, MilvusError> {
        let answer = self.load_answer(name).await?;
        match check(answer.status(), Some(name)) {
            // For a day after a failed load, the answer is the reason of the failure (`ShowCollections` in
            // `internal/querycoordv2/services.go`, 2.4 and 2.5). A server that isn't ready reports that it is
            // unreachable.
            Err(error @ (MilvusError::NotReady(_) | MilvusError::Refused(_))) => {
                tracing::warn!(%error, collection = %name, "not loaded, because its load failed");
                return Ok(Loaded::No);
            }
            _ => self.check_for(answer.status(), name).await?,
        }
        if !matches!(answer.state(), LoadState::Loaded | LoadState::Loading) {
            return Ok(Loaded::No);
        }
        let message =
            api::GetReplicasRequest { db_name: name.database.clone(), collection_id: id, ..Default::default() };
        let answer = self.ask(&name.database, message, Client::get_replicas).await?;
        match check(answer.status(), Some(name)) {
            // A backup shouldn't fail because the replicas can't be counted.
            Err(error @ MilvusError::NotReady(_)) => {
                tracing::warn!(%error, collection = %name, "its replicas can't be counted; assuming one");
            }
            _ => self.check_for(answer.status(), name).await?,
        }
        let replicas = i32::try_from(answer.replicas.len().max(1)).unwrap_or(1);
        let names: Vec<String> =
            self.partitions(name, api::ShowType::InMemory).await?.into_iter().map(|p| p.name).collect();
        Ok(if all.iter().all(|partition| names.contains(&partition.name)) {
            Loaded::Whole { replicas }
        } else {
            Loaded::Partitions { replicas, names }
        })
    }

    pub(super) async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError> {
        match how {
            Loaded::No => return Ok(()),
            Loaded::Whole { replicas } => {
                let message = api::LoadCollectionRequest {
                    db_name: name.database.clone(),
                    collection_name: name.collection.clone(),
                    replica_number: *replicas,
                    ..Default::default()
                };
                self.call_for(name, message, Client::load_collection).await
            }
            Loaded::Partitions { replicas, names } => {
                let message = api::LoadPartitionsRequest {
                    db_name: name.database.clone(),
                    collection_name: name.collection.clone(),
                    partition_names: names.clone(),
                    replica_number: *replicas,
                    ..Default::default()
                };
                self.call_for(name, message, Client::load_partitions).await
            }
        }
        .map(drop)
    }

    pub(super) async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        let answer = self.load_answer(name).await?;
        self.check_for(answer.status(), name).await?;
        if answer.state() == LoadState::Loaded {
            return Ok(Pace::Done);
        }
        let message = api::GetLoadingProgressRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        let answer = self.call_for(name, message, Client::get_loading_progress).await?;
        Ok(Pace::At(u64::try_from(answer.progress).unwrap_or_default()))
    }

    pub(super) async fn release(&self, name: &CollectionName) -> Result<(), MilvusError> {
        let message = api::ReleaseCollectionRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        self.call_for(name, message, Client::release_collection).await.map(drop)
    }

    async fn load_answer(&self, name: &CollectionName) -> Result<api::GetLoadStateResponse, MilvusError> {
        let message = api::GetLoadStateRequest {
            db_name: name.database.clone(),
            collection_name: name.collection.clone(),
            ..Default::default()
        };
        self.ask(&name.database, message, Client::get_load_state).await
    }
}
