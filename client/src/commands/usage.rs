//! What snapshots take and cost.

use serde_json::Value;

use super::{Form, items};
use crate::{
    Error,
    api::Api,
    arguments::{Granularity, Usage},
    output::{self, say},
    show::{field, table, time},
};

pub(super) async fn run(api: &Api, form: Form, usage: Usage) -> Result<(), Error> {
    let granularity = match usage.by {
        Granularity::Hour => "HOUR",
        Granularity::Day => "DAY",
        Granularity::Month => "MONTH",
    };
    let mut query = vec![("granularity", granularity.to_owned())];
    query.extend(usage.from.map(|from| ("from", from)));
    query.extend(usage.to.map(|to| ("to", to)));
    query.extend(usage.instance.map(|instance| ("instance", instance)));
    query.extend(usage.region.map(|region| ("region", region)));
    if usage.focus {
        query.push(("format", "focus".to_owned()));
        return output::answer(&api.csv(&["usage"], &query).await?);
    }
    let found = api.whole(&["usage"], &query).await?;
    form.print(&found, lines)?;
    if form == Form::Tables {
        complete_until(&found).into_iter().for_each(say);
    }
    Ok(())
}

fn lines(found: &Value) -> String {
    let row = |line: &Value| {
        let [region, instance, backup, byte_hours, cost, currency, correction] =
            ["region", "instanceId", "backupId", "byteHours", "cost", "currency", "correction.id"]
                .map(|name| field(line, name));
        vec![time(line, "periodStart"), region, instance, backup, byte_hours, cost, currency, correction]
    };
    let headings = ["from", "region", "instance", "backup", "byte-hours", "cost", "currency", "correction"];
    table(&headings, &items(found, "items").map(row).collect::<Vec<_>>())
}

/// Until when each region's lines are all there.
fn complete_until(found: &Value) -> Vec<String> {
    let Some(regions) = found.get("completeUntil").and_then(Value::as_object) else { return Vec::new() };
    let until = |region: &String| match time(&found["completeUntil"], region) {
        never if never.is_empty() => format!("{region}: nothing is metered yet"),
        until => format!("{region}: complete until {until}"),
    };
    regions.keys().map(until).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_region_says_until_when_it_is_complete() {
        let found = json!({ "completeUntil": { "eu-central-1": null, "eu-west-1": "2026-11-24T05:00:00.000Z" } });
        let said = ["eu-central-1: nothing is metered yet", "eu-west-1: complete until 2026-11-24 05:00:00Z"];
        assert_eq!(complete_until(&found), said);
    }
}
