//! The command line's arguments and help texts.

use clap::{Args, Parser, Subcommand, ValueEnum};
use milvault_model::{self as model, RestoreMode};

/// The heading of the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// The end of `--help`.
const NOTES: &str = "\
Credentials: requests are signed with the credentials of the usual AWS configuration: environment variables, a profile's
keys, single sign-on ('aws sso login'), credential_process, role_arn, a web identity, or the role of a container or
instance. Profiles with mfa_serial and sessions of 'aws login' do not work directly; first run
  eval \"$(aws configure export-credentials --format env)\"

A call is retried for some seconds if the API does not answer; a job that is waited for is polled for minutes without an
answer. Jobs run in the API: they continue if this program ends.

Exit codes:
  0    done
  1    refused or failed, or the output cannot be written
  2    wrong arguments
  3    the API is unreachable, or there are no credentials
  4    not confirmed
  5    the backup or restore that was waited for has ended, but is incomplete
  130  interrupted (Ctrl-C) while waiting for a job; the job continues
  141  the reader of the output has closed it";

/// Backup and restore for Milvus, over Milvault's HTTP API.
#[derive(Debug, Parser)]
#[command(name = "milvault", version, arg_required_else_help = true, after_long_help = NOTES)]
pub(crate) struct Arguments {
    /// The API's address: the stack's output ApiUrl.
    #[arg(long, env = "MILVAULT_URL", global = true, value_name = "URL", help_heading = EVERYWHERE)]
    pub(crate) url: Option<String>,
    /// A bearer token instead of AWS credentials, for a stack that is deployed with an issuer of tokens.
    #[arg(long, env = "MILVAULT_TOKEN", global = true, hide_env_values = true, help_heading = EVERYWHERE)]
    pub(crate) token: Option<String>,
    /// The API's region, if neither its address nor the AWS configuration names it.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) region: Option<String>,
    /// Print the API's answers as JSON.
    ///
    /// All pages of a listing are combined into one answer. An error is the API's problem document, on one line of
    /// standard error; standard output has only answers.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register, check, list and remove Milvus servers.
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Create, list, show, verify and delete backups.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Start, list, show, cancel and roll back restores.
    #[command(subcommand)]
    Restore(RestoreCommand),
    /// Show the automatic daily backup, or switch it on or off.
    #[command(subcommand)]
    Auto(AutoCommand),
    /// Show the storage that backups use, and its cost.
    Usage(Usage),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// List the registered servers.
    List,
    /// Show a server's registration.
    Show {
        /// The instance's id.
        instance: String,
    },
    /// Register a server, or change its registration as a whole.
    Register(Register),
    /// Check whether a server can be backed up and restored.
    Check {
        /// The instance's id.
        instance: String,
    },
    /// Remove the registration of a server that has no backups.
    Remove {
        /// The instance's id.
        instance: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// The id of the instance, which you choose: letters, digits and dashes.
    pub(crate) instance: String,
    /// The server's gRPC address, http://host:19530.
    #[arg(long)]
    pub(crate) endpoint: String,
    /// The region of the server's bucket [default: the API's region].
    #[arg(long)]
    pub(crate) data_region: Option<String>,
    /// The bucket of the server's data (minio.bucketName in Milvus's configuration).
    #[arg(long)]
    pub(crate) bucket: String,
    /// The prefix in the bucket (minio.rootPath), "" for none [default: files, as in Milvus's configuration].
    #[arg(long)]
    pub(crate) root_path: Option<String>,
    /// The instance's name, for people [default: the id].
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The Secrets Manager secret with the server's credentials.
    #[arg(long, value_name = "ARN")]
    pub(crate) secret: Option<String>,
    /// The server's management address, http://host:9091.
    #[arg(long, value_name = "URL")]
    pub(crate) management_endpoint: Option<String>,
    /// The number of functions that copy for a backup [default: 1].
    #[arg(long)]
    pub(crate) copy_workers: Option<u8>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Create a backup, and wait for it.
    Create {
        /// The instance to back up.
        instance: String,
        /// The backup's name.
        name: String,
        /// Back up only these collections: database.collection, or database.*
        #[arg(long = "collection", value_name = "PATTERN")]
        collections: Vec<String>,
        /// The number of days after which the backup is deleted.
        #[arg(long)]
        expires_in_days: Option<u32>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List an instance's backups, newest first.
    List {
        /// The instance.
        instance: String,
        /// List only backups with this status, or one of several: available,damaged
        #[arg(long)]
        status: Option<String>,
        /// List only MANUAL or AUTO backups.
        #[arg(long = "type")]
        kind: Option<String>,
        /// Include deleted backups.
        #[arg(long)]
        deleted: bool,
    },
    /// Show a backup and its collections.
    Show {
        /// The instance.
        instance: String,
        /// The backup's name or id.
        backup: String,
    },
    /// Check that a backup's stored objects are complete and unchanged.
    Verify {
        /// The instance.
        instance: String,
        /// The backup's name or id.
        backup: String,
    },
    /// Delete a backup permanently; a running one is cancelled.
    Delete {
        /// The instance.
        instance: String,
        /// The backup's name or id.
        backup: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RestoreCommand {
    /// Restore a backup, and wait for it.
    Start(Start),
    /// List the restores into an instance, newest first.
    List {
        /// The instance.
        instance: String,
    },
    /// Show a restore and its collections.
    Show {
        /// The instance that is restored into.
        instance: String,
        /// The restore's id.
        restore: String,
    },
    /// Cancel a restore; all live collections stay as they are.
    Cancel {
        /// The instance that is restored into.
        instance: String,
        /// The restore's id.
        restore: String,
    },
    /// Put back the collections that were live before a restore.
    Rollback {
        /// The instance that was restored into.
        instance: String,
        /// The restore's id.
        restore: String,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The instance to restore into.
    pub(crate) instance: String,
    /// The backup's name or id.
    pub(crate) backup: String,
    /// The instance that the backup was made of, if it is another one.
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) from: Option<String>,
    /// Restore only these collections: database.collection, or database.*
    #[arg(long = "collection", value_name = "PATTERN")]
    pub(crate) collections: Vec<String>,
    /// Restore a collection under another name: database.collection=database.other
    #[arg(long, value_name = "OLD=NEW")]
    pub(crate) rename: Vec<String>,
    /// What to do if a collection of the target name exists.
    #[arg(long, value_enum, default_value_t = Mode::Replace)]
    pub(crate) mode: Mode,
    /// Which collections to load.
    #[arg(long, value_enum, default_value_t = Reload::AsBefore)]
    pub(crate) reload: Reload,
    /// What to do about the other collections if one cannot be restored.
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    pub(crate) on_error: OnError,
    /// How many hours the replaced collections are kept for a rollback; 0 drops them immediately.
    #[arg(long, default_value_t = 24)]
    pub(crate) keep_previous_hours: u32,
    /// Restore from a backup even if it is damaged; a collection that needs a missing object cannot be restored.
    #[arg(long)]
    pub(crate) allow_damaged: bool,
    #[command(flatten)]
    pub(crate) confirmation: Confirmation,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Replace it once the restored collection is verified.
    Replace,
    /// Refuse the restore.
    Create,
}

impl From<Mode> for RestoreMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Replace => Self::Replace,
            Mode::Create => Self::Create,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Reload {
    /// Collections that were loaded when they were backed up.
    AsBefore,
    /// No collections.
    None,
}

impl From<Reload> for model::Reload {
    fn from(reload: Reload) -> Self {
        match reload {
            Reload::AsBefore => Self::AsBefore,
            Reload::None => Self::None,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum OnError {
    /// Restore none of them: all live collections stay as they were.
    Stop,
    /// Restore the others: only a live collection that cannot be replaced stays as it was.
    Continue,
}

impl From<OnError> for model::OnError {
    fn from(on_error: OnError) -> Self {
        match on_error {
            OnError::Stop => Self::Stop,
            OnError::Continue => Self::Continue,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum AutoCommand {
    /// Show the settings of the automatic backup, its next run and its last run.
    Show {
        /// The instance.
        instance: String,
    },
    /// Switch the automatic backup on, or change its settings.
    On {
        /// The instance.
        instance: String,
        /// The time of day, HH:MM [default: unchanged, initially 03:00].
        #[arg(long)]
        time: Option<String>,
        /// The time zone, such as Asia/Tokyo [default: unchanged, initially UTC].
        #[arg(long)]
        timezone: Option<String>,
        /// The number of days for which a backup is kept [default: unchanged, initially 3].
        #[arg(long)]
        retention_days: Option<u32>,
        /// The number of newest backups that are kept longer [default: unchanged, initially 0].
        #[arg(long)]
        keep_at_least: Option<u32>,
    },
    /// Switch the automatic backup off.
    Off {
        /// The instance.
        instance: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// The first hour, in RFC 3339: 2026-11-01T00:00:00Z [default: the beginning of this month].
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// The first hour after the period [default: the present hour].
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Show only this region.
    #[arg(long = "of-region")]
    pub(crate) region: Option<String>,
    /// Show only this instance.
    #[arg(long)]
    pub(crate) instance: Option<String>,
    /// The length of the periods that usage is summed by.
    #[arg(long, value_enum, default_value_t = Granularity::Day)]
    pub(crate) by: Granularity,
    /// Print CSV in the FOCUS format; cannot be combined with --json.
    #[arg(long)]
    pub(crate) focus: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Granularity {
    Hour,
    Day,
    Month,
}

/// The options of irreversible commands.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Confirmation {
    /// Do not ask for confirmation.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// The options of commands that start jobs.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Waiting {
    /// Return as soon as the job is accepted.
    #[arg(long)]
    pub(crate) no_wait: bool,
}
