//! MODULE: there are none, and none can be loaded.

use resp::reply::Reply;

use crate::command::{AdminCtx, Args, Command, Flag};
use crate::error::{Error, Result};

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("module", MODULE).group("server").about(
    "4.0.0",
    "Depends on the subcommand",
    "Tells of modules, of which there are none.",
)];

const LIST: &[Flag] = &[Flag::Admin, Flag::NoScript];
const LOAD: &[Flag] = &[Flag::Admin, Flag::NoAsyncLoading, Flag::NoScript];

const MODULE: &[Command] = &[
    Command::help("module|help"),
    Command::admin("module|list", 2, list)
        .flags(LIST)
        .tips(&["nondeterministic_output_order"])
        .about("4.0.0", "O(1)", "Lists the loaded modules: none."),
    Command::admin("module|load", -3, load)
        .syntax("path [arg ...]")
        .flags(LOAD)
        .about("4.0.0", "O(1)", "Is refused, as modules cannot be loaded."),
    Command::admin("module|loadex", -3, load)
        .syntax("path [CONFIG configs(name value) ...] [ARGS args ...]")
        .flags(LOAD)
        .about("7.0.0", "O(1)", "Is refused, as modules cannot be loaded."),
    Command::admin("module|unload", 3, unload)
        .syntax("name")
        .flags(LOAD)
        .about("4.0.0", "O(1)", "Is refused, as no module is loaded."),
];

fn list(_: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.array(0);
    Ok(())
}

/// Whether `enable-module-command` lets this connection go on.
fn permit(ctx: &AdminCtx<'_>) -> Result<()> {
    match ctx
        .state
        .config
        .module_command_allowed(ctx.session.client.is_local)
    {
        true => Ok(()),
        false => Err(Error::Plain(
            "ERR MODULE command not allowed. If the enable-module-command option is set to \
             \"local\", you can run it from a local connection, otherwise you need to set this \
             option in the configuration file, and then restart the server.",
        )),
    }
}

fn load(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    permit(ctx)?;
    Err(Error::Plain("ERR Error loading the extension. This server has no interface for modules."))
}

fn unload(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    permit(ctx)?;
    Err(Error::Plain("ERR Error unloading module: no such module with that name"))
}
