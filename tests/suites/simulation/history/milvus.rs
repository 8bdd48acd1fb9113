//! What happens in a Milvus during a history.

use std::sync::Arc;

use milvault_harness::{MemoryObjects, Random, locked};
use milvault_model::{CollectionName, InstanceId, Time};
use milvault_ports::{Bucket, Objects};

use super::{ALIASES, History, collection};
use crate::{
    belongings::Right,
    ports::{Servers, at_once},
    server::Server,
    world::World,
};

/// The names that users work with: a restore may make `copy`.
const USED: [&str; 4] = ["items", "users", "orders", "copy"];
/// The names that users may give a collection.
const RENAMED: [&str; 5] = ["items", "users", "orders", "copy", "archive"];

/// The most moves between calls: data must not grow faster than it is backed up.
const MOST_MOVES: u64 = 50;

impl History {
    /// Lets servers do what they do by themselves, and users what they do at any moment.
    pub(super) fn servers_go_on(&mut self, is_swapping: bool) {
        // A swap is short, and no backup has to contain what users do meanwhile.
        let (moves, restlessness) = match is_swapping {
            true => (&mut self.swap_moves, self.restlessness * 3),
            false => (&mut self.moves, self.restlessness),
        };
        let is_restless = restlessness > 0 && *moves < MOST_MOVES && !self.is_ending;
        if is_restless
            && self.world.draw(|random| random.permille(restlessness))
            && let Some(instance) = self.world.draw(|random| random.pick(&self.instances).cloned())
        {
            *moves += 1;
            self.milvus_goes_on(&instance);
        }
        let now = self.world.now();
        let mut garbage = Vec::new();
        for (instance, server) in locked(&self.servers).iter_mut() {
            if server.next_sorting().is_some_and(|at| at <= now) {
                server.tick(now);
            }
            // An empty event makes the clock stop at this time.
            if let Some(at) = server.next_sorting()
                && self.planned.insert(instance.clone(), at) != Some(at)
            {
                self.world.at(at, Box::new(|| {}));
            }
            let (world, servers, objects) = (&self.world, &self.servers, &self.objects);
            garbage.extend(server.take_doomed().into_iter().map(|(at, key)| {
                let (world, servers, objects) = (world.clone(), servers.clone(), objects.clone());
                let (instance, bucket) = (instance.clone(), server.bucket.clone());
                (at, Garbage { world, servers, instance, objects, bucket, key })
            }));
        }
        for (at, garbage) in garbage {
            garbage.goes(at);
        }
    }

    pub(super) fn milvus_goes_on(&self, instance: &InstanceId) {
        let now = self.world.now();
        let mut servers = locked(&self.servers);
        let Some(server) = servers.get_mut(instance) else { return };
        server.tick(now);
        // Who drops or makes collections while they are being swapped is told which is where, and isn't followed here.
        let is_swapping = self.audit.is_swapping(instance);
        let what = self.world.draw(|random| {
            let name = collection(random.pick(&USED).unwrap_or(&"items"));
            let what = churn(server, &name, random, now, is_swapping);
            server.believe_belongings();
            what
        });
        drop(servers);
        self.world.note(|| format!("Milvus of {instance}: {what}"));
    }
}

/// One thing that happens in a Milvus while it is backed up.
fn churn(server: &mut Server, name: &CollectionName, random: &mut Random, now: Time, is_swapping: bool) -> String {
    match if is_swapping { random.between(16, 63) } else { random.below(78) } {
        0..20 => {
            server.insert(name, random, now);
            format!("inserts into {name}")
        }
        20..32 => {
            server.delete(name, random, now);
            format!("deletes from {name}")
        }
        32..36 => {
            server.seal(name, now);
            format!("seals {name}")
        }
        36..40 => {
            server.seal_by_policy(name, random, now);
            format!("seals some of {name}")
        }
        40..50 => {
            server.compact(name, random, now);
            format!("compacts {name}")
        }
        50..54 => {
            let alias = *random.pick(&ALIASES).unwrap_or(&"current");
            format!("points {alias} at {name}: {:?}", server.point_believed(alias, name))
        }
        54..55 => {
            let alias = *random.pick(&ALIASES).unwrap_or(&"current");
            format!("drops alias {alias}: {:?}", server.drop_believed_alias(alias))
        }
        55..60 => {
            let rights: Vec<Right> = Right::all_on(name).filter(|right| server.has_role(right.role)).collect();
            match random.pick(&rights).cloned() {
                Some(right) if random.permille(700) => {
                    format!("grants {right}: {:?}", server.give_believed(right.clone()))
                }
                Some(right) => format!("revokes {right}: {:?}", server.revoke_believed(right.clone())),
                None => "grants nothing".to_owned(),
            }
        }
        60..62 => format!("adds a field to {name}: {:?}", server.add_another_field(name)),
        62..64 => {
            server.restart(random, now);
            "starts anew".to_owned()
        }
        64..66 => {
            server.drop_believed(name, now);
            format!("drops {name}")
        }
        66..69 => {
            server.drop_believed(name, now);
            server.create(name, random, now);
            server.insert(name, random, now);
            format!("drops {name} and has it again")
        }
        69..73 => {
            let to = collection(random.pick(&RENAMED).unwrap_or(&"items"));
            server.rename_believed(name, &to, now);
            format!("renames {name} to {to}, and what had that name to this one's")
        }
        _ => {
            server.create(name, random, now);
            format!("has {name}")
        }
    }
}

/// A file that a server's garbage collection will remove.
struct Garbage {
    world: Arc<World>,
    servers: Servers,
    instance: InstanceId,
    objects: Arc<MemoryObjects>,
    bucket: Bucket,
    key: String,
}

impl Garbage {
    /// Removes the file at this time, or later if garbage collection is held then.
    fn goes(self, at: Time) {
        let world = self.world.clone();
        world.at(
            at,
            Box::new(move || {
                let held_until = locked(&self.servers).get(&self.instance).map(|server| server.held_until);
                match held_until.filter(|until| *until > self.world.now()) {
                    Some(until) => self.goes(until),
                    None => drop(at_once(self.objects.delete(&self.bucket, &[self.key]))),
                }
            }),
        );
    }
}
