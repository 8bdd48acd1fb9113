//! The command for usage and costs.

use milvault_wire::{UsageLineView, UsageView};

use crate::{
    Error,
    api::{Answer, Api},
    arguments::{Granularity, Usage},
    form::Form,
    output::{self, say},
    show::{known, table, text, time},
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
        return output::answer(&api.get_csv(&["usage"], &query).await?);
    }
    let found: Answer<UsageView> = api.get_all(&["usage"], &query).await?;
    form.print(&found, lines)?;
    if form == Form::Tables {
        complete_until(&found.object).into_iter().for_each(say);
    }
    Ok(())
}

fn lines(found: &UsageView) -> String {
    let row = |line: &UsageLineView| {
        let correction = line.correction.as_ref().map(|correction| &correction.id);
        let [region, instance, backup] = [&line.region, &line.instance_id, &line.backup_id].map(text);
        let (cost, currency) = (known(line.cost.as_ref()), known(line.currency.as_ref()));
        let byte_hours = text(line.byte_hours);
        vec![time(&line.period_start), region, instance, backup, byte_hours, cost, currency, known(correction)]
    };
    let headings = ["from", "region", "instance", "backup", "byte-hours", "cost", "currency", "correction"];
    table(&headings, &found.items.iter().map(row).collect::<Vec<_>>())
}

/// Describes the time up to which each region's usage is complete.
fn complete_until(found: &UsageView) -> Vec<String> {
    let lines = found.complete_until.iter().map(|(region, until)| match until {
        None => format!("{region}: nothing is metered yet"),
        Some(until) => format!("{region}: complete until {}", time(until)),
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    #[test]
    fn each_region_shows_until_when_its_usage_is_complete() {
        let until = json!({ "eu-central-1": null, "eu-west-1": "2026-11-24T05:00:00.000Z" });
        let found = from_value(json!({ "items": [], "completeUntil": until })).unwrap();
        let lines = ["eu-central-1: nothing is metered yet", "eu-west-1: complete until 2026-11-24 05:00:00Z"];
        assert_eq!(complete_until(&found), lines);
    }
}
