//! An invocation's connection to a Milvus.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use milvault_harness::locked;
use milvault_model::{
    CollectionCapture, CollectionName, Grant, IndexCapture, Instance, InstanceId, Loaded, PrimaryKey, Principal,
    RestorePhase, Time,
};
use milvault_ports::{
    CollectionDescription, Connector, FlushResult, GarbageHold, ImportRequest, ImportStatus, ImportTasks, Milvus,
    MilvusError, OnRateLimit, Pace, Segment, SegmentFiles,
};

use super::{Port, title};
use crate::{
    belongings::{Right, rights_in, written},
    calls::Nature,
    fields,
    server::{ImportRequested, Lie, Server},
};

fn no_milvus<T>(reason: String) -> Result<T, MilvusError> {
    Err(MilvusError::Unreachable(reason))
}

impl Port {
    /// Calls the server of an instance.
    async fn ask<T: Send + 'static>(
        &self,
        instance: &InstanceId,
        nature: Nature,
        name: String,
        ask: impl FnOnce(&mut Server, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        let (servers, world, instance) = (self.servers.clone(), self.network.world.clone(), instance.clone());
        let effect = move || {
            let now = world.now();
            let mut servers = locked(&servers);
            let Some(server) = servers.get_mut(&instance) else { return no_milvus("no server".into()) };
            server.tick(now);
            server.answers()?;
            ask(server, now)
        };
        self.network.call(self.outgoing(nature, name), effect, no_milvus).await
    }
}

#[async_trait]
impl Connector for Port {
    async fn connect(&self, instance: &Instance) -> Result<Arc<dyn Milvus>, MilvusError> {
        Ok(Arc::new(Connection { port: self.clone(), instance: instance.id.clone() }))
    }
}

struct Connection {
    port: Port,
    instance: InstanceId,
}

impl Connection {
    async fn about<T: Send + 'static>(
        &self,
        what: &str,
        name: &CollectionName,
        ask: impl FnOnce(&mut Server, &CollectionName, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        self.named(Nature::Guarded, what, name, ask).await
    }

    /// Makes a change that only the worker's lease keeps from taking effect at the wrong time.
    async fn change<T: Send + 'static>(
        &self,
        what: &str,
        name: &CollectionName,
        ask: impl FnOnce(&mut Server, &CollectionName, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        let ask = move |server: &mut Server, name: &CollectionName, now| {
            server.takes_changes()?;
            ask(server, name, now)
        };
        self.named(Nature::Unguarded, what, name, ask).await
    }

    async fn named<T: Send + 'static>(
        &self,
        nature: Nature,
        what: &str,
        name: &CollectionName,
        ask: impl FnOnce(&mut Server, &CollectionName, Time) -> Result<T, MilvusError> + Send + 'static,
    ) -> Result<T, MilvusError> {
        let (title, name) = (title!(self.port, "{what} {name}"), name.clone());
        self.port.ask(&self.instance, nature, title, move |server, now| ask(server, &name, now)).await
    }
}

#[async_trait]
impl Milvus for Connection {
    async fn version(&self) -> Result<String, MilvusError> {
        self.port
            .ask(&self.instance, Nature::Guarded, "version".to_owned(), |server, _| Ok(server.version().to_owned()))
            .await
    }

    async fn principal(&self) -> Result<Principal, MilvusError> {
        let ask = |server: &mut Server, _| Ok(server.principal());
        self.port.ask(&self.instance, Nature::Guarded, "principal".to_owned(), ask).await
    }

    async fn databases(&self) -> Result<Vec<String>, MilvusError> {
        self.port
            .ask(&self.instance, Nature::Guarded, "databases".to_owned(), |_, _| Ok(vec!["default".to_owned()]))
            .await
    }

    async fn collections(&self, database: &str) -> Result<Vec<(String, i64)>, MilvusError> {
        let database = database.to_owned();
        let ask = move |server: &mut Server, _| {
            let listed = server.listed().into_iter().filter(|(name, _)| name.database == database);
            Ok(listed.map(|(name, id)| (name.collection, id)).collect())
        };
        self.port.ask(&self.instance, Nature::Guarded, "collections".to_owned(), ask).await
    }

    async fn collection_id(&self, name: &CollectionName) -> Result<Option<i64>, MilvusError> {
        let ask = |server: &mut Server, name: &CollectionName, _| match server.describe(name) {
            Ok(found) => Ok(Some(found.id)),
            Err(MilvusError::NoCollection(_)) => Ok(None),
            Err(error) => Err(error),
        };
        self.about("collection id", name, ask).await
    }

    async fn describe(&self, name: &CollectionName) -> Result<CollectionDescription, MilvusError> {
        let ask = |server: &mut Server, name: &CollectionName, _| {
            let described = server.describe(name)?;
            // Like the adapter, this asks the component that keeps aliases.
            let aliases = match server.lie {
                Some(Lie::DescribedAliases) => described.aliases,
                _ => server.aliases_of(described.id),
            };
            Ok(CollectionDescription { aliases, ..described })
        };
        self.about("describe", name, ask).await
    }

    async fn flush(&self, name: &CollectionName, _: OnRateLimit) -> Result<FlushResult, MilvusError> {
        self.about("flush", name, |server, name, now| server.flush(name, now)).await
    }

    async fn is_flushed(&self, name: &CollectionName, flush: &FlushResult) -> Result<bool, MilvusError> {
        let timestamp = flush.timestamp;
        self.about("is flushed", name, move |server, name, now| server.is_flushed(name, timestamp, now)).await
    }

    async fn segments(&self, name: &CollectionName) -> Result<Vec<Segment>, MilvusError> {
        self.about("segments", name, |server, name, _| server.segments(name)).await
    }

    async fn segment_files(
        &self,
        _: &str,
        collection: i64,
        segments: &[i64],
    ) -> Result<Option<Vec<SegmentFiles>>, MilvusError> {
        let segments = segments.to_vec();
        let ask = move |server: &mut Server, _| server.segment_files(collection, &segments);
        self.port.ask(&self.instance, Nature::Guarded, title!(self.port, "files of {collection}"), ask).await
    }

    async fn hold_garbage(&self, duration: Duration) -> Result<GarbageHold, MilvusError> {
        let ask = move |server: &mut Server, now| Ok(server.hold_garbage(duration, now));
        self.port.ask(&self.instance, Nature::Guarded, "hold garbage".to_owned(), ask).await
    }

    async fn release_garbage(&self, _: &GarbageHold) -> Result<(), MilvusError> {
        let ask = |server: &mut Server, now| {
            server.held_until = now;
            Ok(())
        };
        self.port.ask(&self.instance, Nature::Guarded, "release garbage".to_owned(), ask).await
    }

    async fn count(&self, name: &CollectionName) -> Result<u64, MilvusError> {
        self.about("count", name, |server, name, _| server.count(name)).await
    }

    async fn database_properties(&self, _: &str) -> Result<Vec<(String, String)>, MilvusError> {
        Ok(Vec::new())
    }

    async fn access_control(&self) -> Result<Option<String>, MilvusError> {
        let ask = |server: &mut Server, _| server.roles().map(|_| Some(written(&server.rights(None))));
        self.port.ask(&self.instance, Nature::Guarded, "access control".to_owned(), ask).await
    }

    async fn restore_access_control(&self, _: &str) -> Result<Vec<String>, MilvusError> {
        Ok(Vec::new())
    }

    fn captured_grants(&self, captured: &str) -> Result<Vec<Grant>, MilvusError> {
        Ok(rights_in(captured).iter().map(Right::grant).collect())
    }

    async fn roles(&self) -> Result<Vec<String>, MilvusError> {
        let ask = |server: &mut Server, _| server.roles();
        self.port.ask(&self.instance, Nature::Guarded, "roles".to_owned(), ask).await
    }

    async fn grants(&self, role: &str, _: &str) -> Result<Vec<Grant>, MilvusError> {
        let (title, role) = (title!(self.port, "grants of {role}"), role.to_owned());
        let ask =
            move |server: &mut Server, _| Ok(server.rights(Some(&role)).iter().map(Right::grant).collect::<Vec<_>>());
        self.port.ask(&self.instance, Nature::Guarded, title, ask).await
    }

    async fn grant(&self, grant: &Grant) -> Result<(), MilvusError> {
        let (title, right) = (title!(self.port, "grant {grant}"), Right::from(grant));
        let ask = move |server: &mut Server, _| {
            server.takes_changes()?;
            server.give(right)
        };
        self.port.ask(&self.instance, Nature::Unguarded, title, ask).await
    }

    async fn ensure_database(&self, database: &str, _: &[(String, String)]) -> Result<(), MilvusError> {
        self.port
            .ask(&self.instance, Nature::Guarded, title!(self.port, "ensure database {database}"), |_, _| Ok(()))
            .await
    }

    async fn some_keys(&self, name: &CollectionName, limit: usize) -> Result<Vec<PrimaryKey>, MilvusError> {
        self.about("some keys of", name, move |server, name, _| server.some_keys(name, limit)).await
    }

    async fn find_keys(&self, name: &CollectionName, keys: &[PrimaryKey]) -> Result<Vec<PrimaryKey>, MilvusError> {
        let keys = keys.to_vec();
        self.about("find keys of", name, move |server, name, _| server.find_keys(name, &keys)).await
    }

    async fn create(&self, name: &CollectionName, capture: &CollectionCapture) -> Result<(), MilvusError> {
        let (created, added) = fields::created_and_added(&capture.fields);
        let all: Vec<usize> = created.iter().chain(&added).copied().collect();
        let capture = capture.clone();
        let ask = move |server: &mut Server, name: &CollectionName, now| {
            let created = if server.lie == Some(Lie::FieldsByPlace) { all } else { created };
            server.make(name, &capture, &created, now)
        };
        self.change("create", name, ask).await?;
        for field in added {
            let ask = move |server: &mut Server, name: &CollectionName, _| match server.lie {
                Some(Lie::FieldsByPlace) => Ok(()),
                _ => server.add_field(name, field),
            };
            self.change("add a field to", name, ask).await?;
        }
        Ok(())
    }

    async fn ensure_index(&self, name: &CollectionName, _: &IndexCapture) -> Result<(), MilvusError> {
        self.change("index", name, |server, name, _| server.describe(name).map(drop)).await
    }

    async fn set_properties(&self, name: &CollectionName, _: &[(String, String)]) -> Result<(), MilvusError> {
        self.change("set properties of", name, |server, name, _| server.describe(name).map(drop)).await
    }

    async fn indexing(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        self.about("indexing", name, |server, name, _| server.describe(name).map(|_| Pace::Done)).await
    }

    async fn import(&self, request: ImportRequest<'_>) -> Result<i64, MilvusError> {
        let prefixes = [request.data.insert_prefix, request.data.delta_prefix].map(str::to_owned);
        let (partition, end) = (request.partition.to_owned(), request.end_timestamp);
        let requested = ImportRequested { partition, prefixes, end };
        let ask = move |server: &mut Server, name: &CollectionName, now| server.import(name, requested, now);
        self.change("import into", request.collection, ask).await
    }

    async fn import_tasks(&self, name: &CollectionName) -> Result<ImportTasks, MilvusError> {
        self.about("imports into", name, |server, name, _| server.import_tasks(name)).await
    }

    async fn import_status(&self, task: i64) -> Result<ImportStatus, MilvusError> {
        let ask = move |server: &mut Server, now| server.import_status(task, now);
        self.port.ask(&self.instance, Nature::Guarded, title!(self.port, "import {task}"), ask).await
    }

    async fn load(&self, name: &CollectionName, how: &Loaded) -> Result<(), MilvusError> {
        match how {
            Loaded::No => Ok(()),
            _ => self.change("load", name, |server, name, now| server.load(name, now)).await,
        }
    }

    async fn loading(&self, name: &CollectionName) -> Result<Pace, MilvusError> {
        self.about("loading", name, |server, name, now| server.loading(name, now)).await
    }

    async fn release(&self, name: &CollectionName) -> Result<(), MilvusError> {
        self.change("release", name, |server, name, _| server.release(name)).await
    }

    async fn rename(&self, from: &CollectionName, to: &str) -> Result<(), MilvusError> {
        let to = to.to_owned();
        let title = title!(self.port, "rename to {to}:");
        self.change(&title, from, move |server, from, now| server.rename(from, &to, now)).await
    }

    async fn drop_collection(&self, name: &CollectionName) -> Result<(), MilvusError> {
        let (audit, instance) = (self.port.audit.clone(), self.instance.clone());
        let ask = move |server: &mut Server, name: &CollectionName, now| {
            let is_kept = server.keeps_what_it_is_to_drop && audit.phase(&instance) == Some(RestorePhase::Import);
            if let Some(id) = server.id_of(name).filter(|_| !is_kept) {
                if server.keeps_from_dropping(id) {
                    return Err(MilvusError::Refused(format!("{name} has an alias")));
                }
                audit.drops(&instance, name, id, now);
                server.drop_collection(name, now);
            }
            Ok(())
        };
        self.change("drop", name, ask).await
    }

    async fn alias_target(&self, _: &str, alias: &str) -> Result<Option<String>, MilvusError> {
        let alias = alias.to_owned();
        let title = title!(self.port, "target of {alias}");
        self.port.ask(&self.instance, Nature::Guarded, title, move |server, _| Ok(server.alias_target(&alias))).await
    }

    async fn point_alias(&self, alias: &str, at: &CollectionName) -> Result<(), MilvusError> {
        let alias = alias.to_owned();
        let title = title!(self.port, "point {alias} at");
        self.change(&title, at, move |server, at, _| server.point_alias(&alias, at)).await
    }

    async fn drop_alias(&self, _: &str, alias: &str) -> Result<(), MilvusError> {
        let alias = alias.to_owned();
        let ask = move |server: &mut Server, _| {
            server.takes_changes()?;
            server.drop_alias(&alias);
            Ok(())
        };
        self.port.ask(&self.instance, Nature::Unguarded, "drop alias".to_owned(), ask).await
    }
}
