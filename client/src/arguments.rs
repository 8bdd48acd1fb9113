//! What can be said on the command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use milvault_model::{self as model, RestoreMode};

/// Over the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// What `--help` ends with.
const NOTES: &str = "\
Credentials: requests are signed with what the usual AWS configuration leads to: environment variables, a profile's keys,
single sign-on ('aws sso login'), credential_process, role_arn, a web identity, or the role of a container or instance.
Profiles with mfa_serial and sessions of 'aws login' don't work; then first say
  eval \"$(aws configure export-credentials --format env)\"

Calls are made again for seconds while nothing or no function answers; a job is asked for again for minutes. Jobs are the
API's: they go on if this program ends.

Exit codes:
  0    done
  1    refused, failed, or the answer can't be written
  2    wrong arguments
  3    the API is unreachable, or there are no credentials
  4    not confirmed
  5    the backup or restore that was waited for is there, and incomplete
  130  interrupted (Ctrl-C) while a job was waited for, which goes on
  141  whoever read the output has closed it";

/// Backup and restore for Milvus, over Milvault's HTTP API.
#[derive(Debug, Parser)]
#[command(name = "milvault", version, arg_required_else_help = true, after_long_help = NOTES)]
pub(crate) struct Arguments {
    /// The API's address: the stack's output ApiUrl.
    #[arg(long, env = "MILVAULT_URL", global = true, value_name = "URL", help_heading = EVERYWHERE)]
    pub(crate) url: Option<String>,
    /// A token, for a stack that asks for those of an issuer, instead of AWS credentials.
    #[arg(long, env = "MILVAULT_TOKEN", global = true, hide_env_values = true, help_heading = EVERYWHERE)]
    pub(crate) token: Option<String>,
    /// The API's region, if neither its address nor the AWS configuration has it.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) region: Option<String>,
    /// Print the API's answers in JSON.
    ///
    /// All pages of a listing are one answer, with its other fields. A refusal is the API's problem document, on one line of
    /// standard error: standard output has answers only.
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Milvus servers: register, check, list, remove.
    #[command(subcommand)]
    Instance(InstanceCommand),
    /// Backups: create, list, show, verify, delete.
    #[command(subcommand)]
    Backup(BackupCommand),
    /// Restores: start, list, show, cancel, roll back.
    #[command(subcommand)]
    Restore(RestoreCommand),
    /// The automatic daily backup: show, switch on or off.
    #[command(subcommand)]
    Auto(AutoCommand),
    /// What is stored, by the hour, and what it costs.
    Usage(Usage),
    /// Print a completion script for a shell.
    Completion {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum InstanceCommand {
    /// List the registered servers.
    List,
    /// Show one.
    Show {
        /// Its id.
        instance: String,
    },
    /// Register a server, or change its registration as a whole.
    Register(Register),
    /// See whether it can be backed up and restored, item by item.
    Check {
        /// Its id.
        instance: String,
    },
    /// Forget one that has no backups.
    Remove {
        /// Its id.
        instance: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Register {
    /// Its id, chosen by you: letters, digits and dashes.
    pub(crate) instance: String,
    /// Its gRPC address, http://host:19530.
    #[arg(long)]
    pub(crate) endpoint: String,
    /// The region of its bucket; the API's region if not given.
    #[arg(long)]
    pub(crate) data_region: Option<String>,
    /// The bucket that it keeps its data in (its minio.bucketName).
    #[arg(long)]
    pub(crate) bucket: String,
    /// The prefix in it (its minio.rootPath), "" for none; files, Milvus's own, if not given.
    #[arg(long)]
    pub(crate) root_path: Option<String>,
    /// A name for people; the id if not given.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// The Secrets Manager secret with its credentials.
    #[arg(long, value_name = "ARN")]
    pub(crate) secret: Option<String>,
    /// Its management address, http://host:9091.
    #[arg(long, value_name = "URL")]
    pub(crate) management_endpoint: Option<String>,
    /// Over how many functions its backups' copies are spread; 1 if not given.
    #[arg(long)]
    pub(crate) copy_workers: Option<u8>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BackupCommand {
    /// Take a backup, and wait for it.
    Create {
        /// Of which instance.
        instance: String,
        /// The backup's name.
        name: String,
        /// Only these: database.collection, or database.*
        #[arg(long = "collection", value_name = "PATTERN")]
        collections: Vec<String>,
        /// Delete it by itself after so many days.
        #[arg(long)]
        expires_in_days: Option<u32>,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// List backups, newest first.
    List {
        /// Of which instance.
        instance: String,
        /// Only those with this status, or one of several: available,damaged
        #[arg(long)]
        status: Option<String>,
        /// Only MANUAL or AUTO ones.
        #[arg(long = "type")]
        kind: Option<String>,
        /// Deleted ones too.
        #[arg(long)]
        deleted: bool,
    },
    /// Show a backup and its collections.
    Show {
        /// Of which instance.
        instance: String,
        /// Its name or id.
        backup: String,
    },
    /// Compare what is stored with what was stored.
    Verify {
        /// Of which instance.
        instance: String,
        /// Its name or id.
        backup: String,
    },
    /// Delete a backup for good; a running one is stopped.
    Delete {
        /// Of which instance.
        instance: String,
        /// Its name or id.
        backup: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum RestoreCommand {
    /// Restore a backup, and wait for it.
    Start(Start),
    /// List restores, newest first.
    List {
        /// Into which instance.
        instance: String,
    },
    /// Show a restore and its collections.
    Show {
        /// Into which instance.
        instance: String,
        /// Its id.
        restore: String,
    },
    /// Stop a restore: everything live stays as it is.
    Cancel {
        /// Into which instance.
        instance: String,
        /// Its id.
        restore: String,
    },
    /// Put back what was live before a restore.
    Rollback {
        /// Into which instance.
        instance: String,
        /// Its id.
        restore: String,
        #[command(flatten)]
        confirmation: Confirmation,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Start {
    /// Into which instance.
    pub(crate) instance: String,
    /// The backup's name or id.
    pub(crate) backup: String,
    /// Whose backup it is, if another instance's.
    #[arg(long, value_name = "INSTANCE")]
    pub(crate) from: Option<String>,
    /// Only these: database.collection, or database.*
    #[arg(long = "collection", value_name = "PATTERN")]
    pub(crate) collections: Vec<String>,
    /// Under another name: database.collection=database.other
    #[arg(long, value_name = "OLD=NEW")]
    pub(crate) rename: Vec<String>,
    /// What to do where a collection exists.
    #[arg(long, value_enum, default_value_t = Mode::Replace)]
    pub(crate) mode: Mode,
    /// What to load.
    #[arg(long, value_enum, default_value_t = Reload::AsBefore)]
    pub(crate) reload: Reload,
    /// What becomes of the others once a collection can't be restored.
    #[arg(long, value_enum, default_value_t = OnError::Stop)]
    pub(crate) on_error: OnError,
    /// How long the replaced collections are kept for a rollback; 0 drops them at once.
    #[arg(long, default_value_t = 24)]
    pub(crate) keep_previous_hours: u32,
    /// Restore what is whole of a damaged backup.
    #[arg(long)]
    pub(crate) allow_damaged: bool,
    #[command(flatten)]
    pub(crate) confirmation: Confirmation,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Replace it, once the restored one is verified.
    Replace,
    /// Refuse to touch it.
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
    /// What was loaded when it was backed up.
    AsBefore,
    /// Nothing.
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
    /// None of them is restored: everything stays as it was.
    Stop,
    /// They are restored: only what can't be stays as it was.
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
    /// Show the automatic backup, its next run and its last.
    Show {
        /// Of which instance.
        instance: String,
    },
    /// Switch it on, or change it.
    On {
        /// Of which instance.
        instance: String,
        /// At what time of day, HH:MM (as it is, 03:00 at first).
        #[arg(long)]
        time: Option<String>,
        /// In which time zone, such as Asia/Tokyo (as it is, UTC at first).
        #[arg(long)]
        timezone: Option<String>,
        /// For how many days each is kept (as it is, 3 at first).
        #[arg(long)]
        retention_days: Option<u32>,
        /// How many of the newest are kept, however old (as it is, 0 at first).
        #[arg(long)]
        keep_at_least: Option<u32>,
    },
    /// Switch it off.
    Off {
        /// Of which instance.
        instance: String,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Usage {
    /// From this hour on, in RFC 3339: 2026-11-01T00:00:00Z. The beginning of this month by default.
    #[arg(long)]
    pub(crate) from: Option<String>,
    /// Up to this hour; the present one by default.
    #[arg(long)]
    pub(crate) to: Option<String>,
    /// Only of this region.
    #[arg(long = "of-region")]
    pub(crate) region: Option<String>,
    /// Only of this instance.
    #[arg(long)]
    pub(crate) instance: Option<String>,
    /// Summed by.
    #[arg(long, value_enum, default_value_t = Granularity::Day)]
    pub(crate) by: Granularity,
    /// As CSV in the form of FOCUS; not together with --json.
    #[arg(long)]
    pub(crate) focus: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Granularity {
    Hour,
    Day,
    Month,
}

/// For what can't be undone.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Confirmation {
    /// Don't ask.
    #[arg(long, short = 'y')]
    pub(crate) yes: bool,
}

/// For jobs.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Waiting {
    /// Return as soon as the job is accepted.
    #[arg(long)]
    pub(crate) no_wait: bool,
}
