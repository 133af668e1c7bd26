"""From a command line to a run: flags as in T5X, gin bound once and only here, mistakes told in one paragraph.

    python -m rootstock.pretrain --gin_file=pretrain/bert_base.gin --gin.MODEL_DIR="'runs/base'" --gin.TRAIN_STEPS=1000

Recipes use gin's dynamic registration: they import real Python paths, and no code carries a gin decorator.
"""

import argparse
import ast
import atexit
import copy
import difflib
import errno
import logging
import os
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import Any

from rootstock.engine import bindings as bound
from rootstock.engine import host_memory, signals
from rootstock.engine.errors import INTERRUPTED, TRAINED, USER_MISTAKE, Stopped, Unwritten, UserError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A path on the command line or in a recipe that cannot be what it is named as; a file that we miss by a mistake of ours has other errors.
MISNAMED = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)
PACKAGE = pathlib.Path(__file__).resolve().parents[1]
RECIPES = PACKAGE / "gin_configs"


def main(program: str, description: str, argv: Sequence[str] | None = None) -> int:
    """Parses flags, binds gin, trains; returns the exit code. The whole of `python -m rootstock.pretrain` and `... finetune`."""
    host_memory.keep()
    dry_run = "print parameters, memory, steps, time and disk of the run, then stop; builds the token cache where it is absent"
    flags = parse(program, description, sys.argv[1:] if argv is None else argv, dry_run, _add_processes)
    return guarded(lambda: _run(program, flags))


def guarded(function: Callable[[], int | None]) -> int:
    """Runs a command; a user's mistake becomes a paragraph on standard error and exit code 2, a signal its own exit code."""
    try:
        with signals.ending_at_once():
            return function() or TRAINED
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.code
    except Unwritten as error:
        return _full(str(error))
    except UserError as error:
        return _mistake(error)
    except KeyboardInterrupt:
        print("interrupted; the checkpoints that were complete before stay", file=sys.stderr)
        return INTERRUPTED
    except OSError as error:
        if error.errno in FULL:
            return _full(str(error))
        if error.errno in MISNAMED and error.filename is not None:
            return _mistake(f"'{os.fsdecode(error.filename)}': {error.strerror}")
        raise
    except (ValueError, TypeError) as error:
        told = _told_by_us(error)
        if told is None:
            raise
        return _mistake(told)


def parse(
    program: str, description: str, argv: Sequence[str], dry_run: str, more: Callable[[argparse.ArgumentParser], None] = lambda parser: None
) -> argparse.Namespace:
    """Flags; `--gin.NAME=value` is short for `--gin_bindings="NAME = value"`. `dry_run` is the help of that flag, `more` adds flags of the
    program's own.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        epilog="Exit codes: 0 trained to TRAIN_STEPS; 2 a mistake in flags, recipe or data; 75 saved on SIGTERM, start again to go on;\n"
        "130 saved on Ctrl-C.",
    )
    parser.add_argument(
        "--gin_file",
        action="append",
        default=[],
        metavar="FILE",
        required=True,
        help="recipe, looked for in the working folder, then in the package's gin_configs; repeatable, later ones win",
    )
    parser.add_argument(
        "--gin.NAME",
        dest="_",
        metavar="VALUE",
        help="binds a macro or parameter to a Python literal: --gin.SEED=1, --gin.MODEL_DIR=\"'runs/x'\"",
    )
    parser.add_argument(
        "--gin_bindings", action="append", default=[], metavar="BINDING", help="a binding in full: 'bert.Config.layers = 6'; repeatable"
    )
    parser.add_argument("--gin_search_paths", default="", metavar="DIRS", help="more folders to look for recipes in, separated by commas")
    parser.add_argument("--dry_run", action="store_true", help=dry_run)
    more(parser)
    rest, short = [], []
    for argument in argv:
        (short if re.match(r"--gin\.[\w./@]+=", argument) else rest).append(argument)
    flags = parser.parse_args(rest)
    flags.gin_bindings += [argument.removeprefix("--gin.").replace("=", " = ", 1) for argument in short]
    flags.command = command_line(program, argv)
    return flags


def _add_processes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--coordinator_address", metavar="HOST:PORT", help="of process 0, for a run of several processes without a cluster environment"
    )
    parser.add_argument("--process_count", type=int, metavar="N", help="processes in all")
    parser.add_argument("--process_index", type=int, metavar="I", help="number of this process, from 0")
    parser.add_argument(
        "--distributed", action="store_true", help="start jax.distributed with what the cluster environment (SLURM, TPU pod, GKE) tells"
    )


def bind(files: Sequence[str], bindings: Sequence[str] = (), search_paths: Sequence[str] = ()) -> None:
    """Reads recipes and bindings into gin. Raises UserError for a file that is not there, a line that does not parse and a macro that no
    recipe defines.
    """
    import gin

    gin.clear_config()
    folders = ["", *search_paths, str(RECIPES), str(PACKAGE)]
    for folder in folders:
        gin.add_config_file_search_path(folder)
    for file in files:
        if not any(os.path.isfile(os.path.join(folder, file)) for folder in folders):
            raise UserError(f"--gin_file={file}: there is no such recipe in the working folder or in {RECIPES}{_nearest(file, recipes())}")
    logging.getLogger().addFilter(_no_path_errors)
    try:
        gin.parse_config_files_and_bindings(list(files), [], finalize_config=False, skip_unknown=False)
    except Exception as error:
        raise UserError(f"a recipe of {', '.join(files)} is wrong: {_first_line(error)}") from error
    finally:
        logging.getLogger().removeFilter(_no_path_errors)
    known = sorted(macros())
    imports = _imports()
    for binding in bindings:
        name, _, value = binding.partition("=")
        if re.fullmatch(r"\w+", name.strip()) and name.strip() not in known:
            there = f"defined are {', '.join(known)}" if known else f"{', '.join(files)} defines none: it is no recipe of a run by itself"
            raise UserError(f"--gin.{name.strip()}: no recipe defines the macro {name.strip()}{_nearest(name.strip(), known)}; {there}")
        try:
            gin.parse_config([*imports, binding])
        except Exception as error:
            told = re.sub(r"\s*In bindings string line .*", "", _first_line(error))
            raise UserError(f"the binding {binding!r} is wrong: {_quoting(name.strip(), value.strip()) or told}") from error
    _check_macros()
    bound.check()


def macros() -> dict[str, str]:
    """The macros that are defined, each with its value as text."""
    import gin

    found = {}
    for (scope, selector), parameters in gin.config._CONFIG.items():
        if selector == "gin.macro":
            found[scope] = repr(parameters.get("value"))
    return found


def macro(name: str) -> Any:
    """The value of a macro, of the one that it refers to where it does. Raises ValueError where there is none."""
    import gin

    return copy.deepcopy(gin.query_parameter(f"{name}/macro.value"))  # a copy of a gin reference is what it refers to


def _imports() -> list[str]:
    """The imports of the recipes, so that a binding from the command line can name what they can."""
    import gin

    statements = sorted(statement.format() for statement in gin.config._IMPORTS)
    return ["from __gin__ import dynamic_registration", *(text for text in statements if "__gin__" not in text)]


def recipes() -> list[str]:
    """The recipes that come with the package, as `--gin_file` names them."""
    return sorted(str(path.relative_to(RECIPES)) for path in RECIPES.rglob("*.gin"))


def fetch(name: str = "rootstock.engine.train.Run"):
    """The object at the root of a recipe, built by gin with all its bindings."""
    import gin

    module, _, leaf = name.rpartition(".")
    try:
        return gin.get_configurable(f"{module.rpartition('.')[2]}.{leaf}")()
    except (TypeError, ValueError) as error:
        said = str(error)
        if "No values supplied by Gin" in said:
            raise UserError(f"the recipe leaves something out: {said.splitlines()[0]}") from error
        if "Could not find" in said or "No configurable" in said:
            raise UserError(
                f"the recipe binds nothing of {name}: it describes no run. Include a recipe of gin_configs/pretrain or gin_configs/finetune"
            ) from error
        if (call := re.search(r"In call to configurable '(\w+)'", said)) and _told_by_us(error) is None:
            raise UserError(f"the recipe's values do not fit {call[1]}{_bound_to(call[1])}: {said.splitlines()[0]}") from error
        raise


def _bound_to(name: str) -> str:
    """What the recipe binds of a configurable, by its last name."""
    import gin

    found = [parameters for (_, selector), parameters in gin.config._CONFIG.items() if selector.split(".")[-1] == name]
    told = ", ".join(f"{parameter} = {value!r}" for parameters in found for parameter, value in parameters.items())
    return f" ({told})" if told else ""


def _run(program: str, flags: argparse.Namespace) -> int:
    _start_distributed(flags)
    bind(flags.gin_file, flags.gin_bindings, [folder for folder in flags.gin_search_paths.split(",") if folder])
    import gin

    from rootstock.engine import dry_run, train

    run = fetch()
    if flags.dry_run:
        print(dry_run.summary(run))
        return TRAINED
    running = train.train(run, gin.operative_config_str, flags.command)
    running.say(f"done: {running.model_dir}/report.html")
    return TRAINED


def _start_distributed(flags: argparse.Namespace) -> None:
    import jax

    address, count, index = flags.coordinator_address, flags.process_count, flags.process_index
    if len({address is None, count is None, index is None}) > 1:
        raise UserError("--coordinator_address, --process_count and --process_index are given together or not at all")
    if address is not None:
        if not re.fullmatch(r".+:\d+", address) or not 0 <= index < count:
            raise UserError(
                f"--coordinator_address={address} --process_count={count} --process_index={index}: expected HOST:PORT, and an index from 0 "
                "to below the count"
            )
        if jax.config.jax_platforms == "cpu":
            jax.config.update("jax_cpu_collectives_implementation", "gloo")
    if address is not None or flags.distributed:
        try:
            jax.distributed.initialize(address, count, index)
        except (ValueError, RuntimeError) as error:
            raise UserError(f"the processes do not come together: {_first_line(error)}") from error


def _check_macros() -> None:
    """gin says nothing of `%MACRO` that nobody defines until it is used, and nothing of REQUIRED at all."""
    import gin

    defined = macros()
    required = [name for name, value in defined.items() if "REQUIRED" in value]
    if required:
        examples = " ".join(f"--gin.{name}=\"'...'\"" for name in required)
        raise UserError(f"the recipe needs {', '.join(required)}: add {examples}")
    used = set(re.findall(r"%(\w+)", gin.config_str()))
    missing = sorted(name for name in used if name not in defined and not name.startswith("gin"))
    if missing:
        raise UserError(f"the recipe uses %{missing[0]}, which nothing defines{_nearest(missing[0], sorted(defined))}")


def _no_path_errors(record: logging.LogRecord) -> bool:
    """gin logs an error for every folder in which it does not find an include, on its way to the one where it does."""
    return not record.getMessage().startswith("Path not found")


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, 0.5) or difflib.get_close_matches(
        os.path.basename(name), [os.path.basename(k) for k in known], 1, 0.6
    )
    if not close:
        return ""
    whole = next(k for k in known if k == close[0] or os.path.basename(k) == close[0])
    return f"; did you mean {whole}?"


def _quoting(name: str, value: str) -> str:
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        if re.fullmatch(r"[\w./~:-]+", value):
            return f"{value} is no Python value. A text needs its own quotes inside the shell's: --gin.{name}=\"'{value}'\""
    return ""


def command_line(program: str, argv: Sequence[str]) -> str:
    """The command as one can paste it into a shell."""
    return " ".join([f"python -m {program}", *map(_shell_quoted, argv)])


def _shell_quoted(argument: str) -> str:
    """As a person would type it: gin's own quotes stand inside double ones."""
    if "'" in argument and not set('"$`\\!') & set(argument):
        name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        return f'{name}{equals}"{value}"'
    return shlex.quote(argument)


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:3]) if lines else type(error).__name__


def _told_by_us(error: BaseException) -> str | None:
    """A ValueError of the data room (maybe of a worker process) or of a constructor, maybe wrapped by gin, is a user's mistake; one from a
    library's depth is a bug.
    """
    if type(error).__module__.startswith("rootstock."):
        return str(error)
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    package = trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] if trace else ""
    return str(error) if package in ("rootstock", "gin") else None


def _full(message: str) -> int:
    """The libraries that were writing would each complain once more, with tracebacks, when the interpreter ends: it ends without them."""
    atexit.register(lambda: (sys.stdout.flush(), sys.stderr.flush(), os._exit(USER_MISTAKE)))
    again = "Mend that (where the disk is full, make room) and give the same command again"
    return _mistake(f"{message}. {again}; a run goes on from its newest complete checkpoint")


def _mistake(message: object) -> int:
    told = re.sub(r"\n\s*In call to configurable .*", "", str(message))  # gin adds where it was, which says nothing to a user
    print(f"error: {told}", file=sys.stderr)
    return USER_MISTAKE
