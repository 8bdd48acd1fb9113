//! The commands, by their subject.

mod auto;
mod backup;
mod confirmation;
mod find;
mod instance;
mod outcome;
mod registration;
mod request;
mod restore;
mod usage;

use clap::CommandFactory;

use crate::{
    Error,
    api::Api,
    arguments::{Arguments, Command},
    form::Form,
    output,
};

pub(crate) async fn run(arguments: Arguments, form: Form) -> Result<(), Error> {
    if let Command::Completion { shell } = arguments.command {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut Arguments::command(), "milvault", &mut script);
        return output::answer(&String::from_utf8_lossy(&script));
    }
    let url = arguments.url.as_deref();
    let url =
        url.ok_or_else(|| Error::Usage("the API's address is missing: use --url or set MILVAULT_URL".to_owned()))?;
    let api = Api::new(url, arguments.region, arguments.token.filter(|token| !token.is_empty())).await?;
    match arguments.command {
        Command::Instance(command) => instance::run(&api, form, command).await,
        Command::Backup(command) => backup::run(&api, form, command).await,
        Command::Restore(command) => restore::run(&api, form, command).await,
        Command::Auto(command) => auto::run(&api, form, command).await,
        Command::Usage(usage) => usage::run(&api, form, usage).await,
        Command::Completion { .. } => Ok(()),
    }
}
