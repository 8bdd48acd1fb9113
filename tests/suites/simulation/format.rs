//! A snapshot's format, read from the stored bytes alone: nothing of the jobs' own code takes part.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use sha2::{Digest, Sha256};

/// An object that a snapshot consists of.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The object's key in the snapshot.
    pub(crate) key: String,
    pub(crate) size: u64,
    pub(crate) etag: String,
}

/// A collection as captured.
#[derive(Debug, Clone)]
pub(crate) struct Captured {
    pub(crate) name: String,
    pub(crate) id: i64,
    pub(crate) flush_timestamp: u64,
    pub(crate) size_bytes: u64,
    /// The ids of its segments with rows.
    pub(crate) segments: Vec<i64>,
    /// Its number of rows, and whether that is exact.
    pub(crate) rows: (u64, bool),
    /// Its fields' ids and names.
    pub(crate) fields: Vec<(i64, String)>,
    pub(crate) aliases: BTreeSet<String>,
}

/// A collection that isn't in a snapshot, and why.
#[derive(Debug, Clone)]
pub(crate) struct LeftOut {
    pub(crate) name: String,
    pub(crate) id: i64,
    pub(crate) cause: Cause,
    pub(crate) reason: String,
}

/// Why a collection isn't in a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// It belongs to a restore.
    Restores,
    /// It was dropped before its point in time.
    Dropped,
    /// It couldn't be captured.
    Trouble,
}

/// A stored snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its documents by their keys in the bucket, with their bytes' SHA-256.
    pub(crate) documents: BTreeMap<String, String>,
    pub(crate) entries: Vec<Entry>,
    pub(crate) collections: Vec<Captured>,
    pub(crate) left_out: Vec<LeftOut>,
    /// The roles' grants, as the server wrote them.
    pub(crate) access_control: Option<String>,
    pub(crate) size_bytes: u64,
    pub(crate) added_bytes: u64,
}

/// Everything of a backup but its data.
pub(crate) fn folder(instance: &str, backup: &str) -> String {
    format!("{instance}/snapshots/{backup}/")
}

/// Where a snapshot's object is in the bucket.
pub(crate) fn data_key(instance: &str, entry: &str) -> String {
    let shard = Sha256::digest(entry.as_bytes())[0] % 16;
    format!("{instance}/objects/{shard:x}/{entry}")
}

/// Whether this key of the bucket is one of data.
pub(crate) fn is_data(key: &str) -> bool {
    key.split('/').nth(1) == Some("objects")
}

/// The object's key in the source, relative to Milvus's root path.
pub(crate) fn source_key(entry: &str) -> String {
    match entry.splitn(3, '/').collect::<Vec<_>>()[..] {
        [collection, kind, rest] => format!("{kind}/{collection}/{rest}"),
        _ => entry.to_owned(),
    }
}

pub(crate) fn sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a snapshot and checks its documents against each other.
pub(crate) fn read(folder: &str, get: impl Fn(&str) -> Option<Vec<u8>>) -> Result<Stored, String> {
    let key = format!("{folder}manifest.json");
    let body = get(&key).ok_or("there is no manifest")?;
    let manifest: Value = serde_json::from_slice(&body).map_err(|error| format!("the manifest: {error}"))?;
    let mut documents = BTreeMap::from([(key, sha256(&body))]);

    let mut pages = |kind: &str, sort_key: &str| -> Result<Vec<Value>, String> {
        let mut lines = Vec::new();
        for page in manifest[kind].as_array().ok_or_else(|| format!("no {kind}"))? {
            let key = format!("{folder}{}", text(page, "key")?);
            let body = get(&key).ok_or_else(|| format!("page {key} is missing"))?;
            if sha256(&body) != text(page, "sha256")? {
                return Err(format!("page {key} isn't the one that the manifest names"));
            }
            let found = decode(&body).map_err(|error| format!("page {key}: {error}"))?;
            let ends = [found.first(), found.last()].map(|line| line.map(|line| as_text(&line[sort_key])));
            if ends != [Some(text(page, "first")?), Some(text(page, "last")?)] {
                return Err(format!("page {key} isn't from its first to its last"));
            }
            if Some(found.len() as u64) != page["entries"].as_u64() {
                return Err(format!("page {key} doesn't have as many entries as the manifest says"));
            }
            documents.insert(key, sha256(&body));
            lines.extend(found);
        }
        if !lines.is_sorted_by(|a, b| as_text(&a[sort_key]) < as_text(&b[sort_key])) {
            return Err(format!("the {kind} aren't sorted, or name something twice"));
        }
        Ok(lines)
    };
    let entries = pages("objectPages", "key")?.iter().map(entry).collect::<Result<_, _>>()?;
    let collections = pages("collectionPages", "id")?.iter().map(captured).collect::<Result<_, _>>()?;
    let left_out =
        manifest["leftOut"].as_array().ok_or("no leftOut")?.iter().map(left_out).collect::<Result<_, _>>()?;
    let totals = &manifest["totals"];
    let (size_bytes, added_bytes) = (number(totals, "sizeBytes")?, number(totals, "addedBytes")?);
    let access_control = manifest["accessControl"].as_str().map(str::to_owned);
    Ok(Stored { documents, entries, collections, left_out, access_control, size_bytes, added_bytes })
}

fn decode(body: &[u8]) -> Result<Vec<Value>, String> {
    let lines = zstd::decode_all(body).map_err(|error| error.to_string())?;
    serde_json::Deserializer::from_slice(&lines).into_iter().collect::<Result<_, _>>().map_err(|e| e.to_string())
}

/// Numbers are sorted as text, too.
fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(of: &Value, field: &str) -> Result<String, String> {
    of[field].as_str().map(str::to_owned).ok_or_else(|| format!("no {field} in {of}"))
}

fn number(of: &Value, field: &str) -> Result<u64, String> {
    of[field].as_u64().ok_or_else(|| format!("no {field} in {of}"))
}

fn id(of: &Value) -> Result<i64, String> {
    of["id"].as_i64().ok_or_else(|| format!("no id in {of}"))
}

fn entry(line: &Value) -> Result<Entry, String> {
    Ok(Entry { key: text(line, "key")?, size: number(line, "size")?, etag: text(line, "etag")? })
}

fn left_out(line: &Value) -> Result<LeftOut, String> {
    let (name, reason) = (text(line, "collection")?, text(line, "reason")?);
    let cause = match line["cause"].as_str() {
        Some("trouble") => Cause::Trouble,
        Some("dropped") => Cause::Dropped,
        Some("restores") => Cause::Restores,
        _ => return Err(format!("{name} is left out for no cause")),
    };
    Ok(LeftOut { name, id: id(line)?, cause, reason })
}

fn captured(line: &Value) -> Result<Captured, String> {
    let segments = line["segments"].as_array().ok_or("no segments")?.iter();
    let segments = segments.filter(|segment| segment["level"] != "l0").map(id).collect::<Result<_, _>>()?;
    let fields = line["fields"].as_array().ok_or("no fields")?.iter();
    let fields = fields.map(|field| Ok((id(field)?, text(field, "name")?))).collect::<Result<_, String>>()?;
    let aliases = line["aliases"].as_array().ok_or("no aliases")?.iter();
    let rows = &line["rows"];
    Ok(Captured {
        name: text(line, "name")?,
        id: id(line)?,
        flush_timestamp: number(line, "flushTimestamp")?,
        size_bytes: number(line, "sizeBytes")?,
        segments,
        rows: (number(rows, "rows")?, rows["known"] == "exactly"),
        fields,
        aliases: aliases.filter_map(|alias| Some(alias.as_str()?.to_owned())).collect(),
    })
}
