//! EventBridge Scheduler: one schedule per instance, in the stack's own group.

use async_trait::async_trait;
use aws_sdk_scheduler::{
    Client,
    error::{BuildError, DisplayErrorContext, SdkError},
    types::{DeadLetterConfig, FlexibleTimeWindow, FlexibleTimeWindowMode, RetryPolicy, Target},
};
use milvault_model::{InstanceId, Plan};
use milvault_ports::{BackgroundEvent, Scheduled, Schedules, SchedulesError};
use serde_json::json;

/// How long and how often the scheduler retries to deliver a run that the function doesn't accept. After that, the run
/// goes to the dead-letter queue, and the sweep begins it.
const OLDEST_SECONDS: i32 = 3_600;
const RETRIES: i32 = 10;

/// What all schedules have in common.
#[derive(Debug, Clone)]
pub struct ScheduleTarget {
    /// The schedule group.
    pub group: String,
    /// The function that begins backups.
    pub function_arn: String,
    /// The role that may invoke this function, and nothing else.
    pub role_arn: String,
    /// The queue for runs that couldn't be delivered.
    pub dead_letters_arn: String,
}

/// Schedules named by the instance's id, all of whose characters are valid in a schedule's name, and whose length fits.
pub(crate) struct SchedulerSchedules {
    pub(crate) client: Client,
    pub(crate) target: ScheduleTarget,
}

fn failed<E, R>(error: SdkError<E, R>) -> SchedulesError
where
    E: std::error::Error + 'static,
    R: std::fmt::Debug,
{
    SchedulesError(DisplayErrorContext(error).to_string())
}

impl SchedulerSchedules {
    fn target(&self, instance: &InstanceId) -> Result<Target, BuildError> {
        let input = json!(BackgroundEvent::Scheduled(Scheduled { instance_id: instance.clone(), time: None }));
        let policy =
            RetryPolicy::builder().maximum_event_age_in_seconds(OLDEST_SECONDS).maximum_retry_attempts(RETRIES).build();
        Target::builder()
            .arn(&self.target.function_arn)
            .role_arn(&self.target.role_arn)
            .dead_letter_config(DeadLetterConfig::builder().arn(&self.target.dead_letters_arn).build())
            .retry_policy(policy)
            .input(input.to_string())
            .build()
    }

    /// Changes the schedule; `false` if there is none.
    async fn update(&self, instance: &InstanceId, plan: &Plan) -> Result<bool, SchedulesError> {
        let invalid = |error: BuildError| SchedulesError(error.to_string());
        let sent = self
            .client
            .update_schedule()
            .name(instance.as_str())
            .group_name(&self.target.group)
            .schedule_expression(plan.cron())
            .schedule_expression_timezone(plan.timezone.to_string())
            .flexible_time_window(on_the_minute().map_err(invalid)?)
            .target(self.target(instance).map_err(invalid)?)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(false)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Creates the schedule; `false` if there is one.
    async fn create(&self, instance: &InstanceId, plan: &Plan) -> Result<bool, SchedulesError> {
        let invalid = |error: BuildError| SchedulesError(error.to_string());
        let sent = self
            .client
            .create_schedule()
            .name(instance.as_str())
            .group_name(&self.target.group)
            .schedule_expression(plan.cron())
            .schedule_expression_timezone(plan.timezone.to_string())
            .flexible_time_window(on_the_minute().map_err(invalid)?)
            .target(self.target(instance).map_err(invalid)?)
            .send()
            .await;
        match sent {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_conflict_exception()) => Ok(false),
            Err(error) => Err(failed(error)),
        }
    }
}

fn on_the_minute() -> Result<FlexibleTimeWindow, BuildError> {
    FlexibleTimeWindow::builder().mode(FlexibleTimeWindowMode::Off).build()
}

#[async_trait]
impl Schedules for SchedulerSchedules {
    async fn put(&self, instance: &InstanceId, plan: &Plan) -> Result<(), SchedulesError> {
        if self.update(instance, plan).await? || self.create(instance, plan).await? {
            return Ok(());
        }
        // Somebody else has created it meanwhile.
        match self.update(instance, plan).await? {
            true => Ok(()),
            false => Err(SchedulesError(format!("the schedule of {instance} comes and goes"))),
        }
    }

    async fn remove(&self, instance: &InstanceId) -> Result<(), SchedulesError> {
        let sent = self.client.delete_schedule().name(instance.as_str()).group_name(&self.target.group).send().await;
        match sent {
            Ok(_) => Ok(()),
            Err(error) if error.as_service_error().is_some_and(|error| error.is_resource_not_found_exception()) => {
                Ok(())
            }
            Err(error) => Err(failed(error)),
        }
    }
}
