"""A function child that is defined in the program being run, whichever way that is run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import zipapp
from pathlib import Path

import msgspec
import pytest
import trio

# What each program begins with. Its log tells how often it was run, and as what.
HEAD = """
    import os, sys
    with open(os.environ["LOG"], "a") as log:
        print(__name__, file=log)
    from typing import Annotated
    import msgspec, trio, trio_ipc
"""

WORKER = """
    class Number(msgspec.Struct, tag=True):
        number: int

    class Text(msgspec.Struct, tag=True):
        text: str

    async def work(parent, greeting):
        async for message in parent:
            await parent.send([greeting, type(message).__name__, __name__, work.__module__])

    async def main():
        async with trio_ipc.open_child(
            work, "hi", child_message_type=Number | Text | None
        ) as child:
            for message in (Number(1), Text("a"), None):
                await child.send(message)
                print(await child.receive())
"""

GUARDED = """
    if __name__ == "__main__":
        trio.run(main)
"""

IN_CHILD = "__trio_ipc_main__"
SEEN = [f"['hi', '{kind}', '{IN_CHILD}', '{IN_CHILD}']" for kind in ("Number", "Text", "NoneType")]


class Program:
    """A program in a directory of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "log"

    def write(self, name: str, *parts: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(map(textwrap.dedent, parts)))
        return path

    async def run(
        self, *args: str, env: dict[str, str] | None = None, **options: object
    ) -> subprocess.CompletedProcess[str]:
        done = await trio.run_process(
            [sys.executable, *args],
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            cwd=self.folder,
            env={**os.environ, "LOG": str(self.log), **(env or {})},
            **options,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    def names(self) -> list[str]:
        """As what it was run, one for each process."""
        return self.log.read_text().splitlines()


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


# Ways to run it ---------------------------------------------------------------------------------


async def test_a_script(program: Program) -> None:
    program.write("script.py", HEAD, WORKER, GUARDED)
    done = await program.run("script.py")
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (SEEN, "", 0)
    assert program.names() == ["__main__", IN_CHILD]


async def test_a_script_without_a_suffix(program: Program) -> None:
    program.write("script", HEAD, WORKER, GUARDED)
    done = await program.run("./script")
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (SEEN, "", 0)


async def test_a_script_beside_its_own_modules_that_changes_its_directory(
    program: Program,
) -> None:
    program.write("beside.py", "async def work(parent): await parent.send(__name__)")
    program.write(
        "script.py",
        HEAD,
        """
        import beside

        async def work(parent):
            await beside.work(parent)

        async def main():
            os.chdir("/")
            for function in (beside.work, work):
                for cwd in (None, "/usr"):
                    async with trio_ipc.open_child(function, cwd=cwd) as child:
                        print(await child.receive())
        """,
        GUARDED,
    )
    done = await program.run("script.py")
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (["beside"] * 4, "", 0)


async def test_a_module_of_a_package(program: Program) -> None:
    program.write("package/__init__.py")
    program.write("package/sibling.py", "greeting = 'from a sibling'")
    program.write(
        "package/module.py",
        HEAD,
        """
        from . import sibling
        """,
        WORKER.replace("[greeting,", "[sibling.greeting,"),
        GUARDED,
    )
    done = await program.run("-m", "package.module")
    seen = [line.replace("'hi'", "'from a sibling'") for line in SEEN]
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (seen, "", 0)
    assert program.names() == ["__main__", IN_CHILD]


@pytest.mark.parametrize("how", ["package", "directory", "archive"])
async def test_a_package_a_directory_and_an_archive(program: Program, how: str) -> None:
    program.write("package/__init__.py")
    program.write("package/__main__.py", HEAD, WORKER, GUARDED)
    if how == "archive":
        zipapp.create_archive(program.folder / "package", program.folder / "archive")
    done = await program.run(
        *{"package": ("-m", "package"), "directory": ("package",)}.get(how, (how,))
    )
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (SEEN, "", 0)
    assert program.names() == ["__main__", IN_CHILD]


async def test_a_function_of_an_imported_module_leaves_the_script_alone(program: Program) -> None:
    program.write("functions.py", "async def work(parent): await parent.send(__name__)")
    program.write(
        "script.py",
        HEAD,
        """
        import functions

        async def main():
            async with trio_ipc.open_child(functions.work) as child:
                print(await child.receive())

        trio.run(main)  # not guarded, and not needed by the child
        """,
    )
    done = await program.run("script.py")
    assert (done.stdout, done.stderr, done.returncode) == ("functions\n", "", 0)
    assert program.names() == ["__main__"]


async def test_from_the_command_line_there_is_nothing_to_import(program: Program) -> None:
    source = textwrap.dedent(HEAD + WORKER + "    trio.run(main)\n")
    for arguments, stdin in ((("-c", source), b""), (("-",), source.encode())):
        done = await program.run(*arguments, stdin=stdin)
        assert "TypeError: work is defined in an interactive session, where the" in done.stderr
        assert "put it into a file" in done.stderr
        assert done.returncode == 1
    assert program.names() == ["__main__"] * 2


async def test_paths_mean_the_same_in_a_child_with_another_directory(program: Program) -> None:
    program.write("here.py", "async def work(parent): await parent.send(__name__)")
    program.write("lib/there.py", "async def work(parent): await parent.send(__name__)")
    code = """if True:
        import pathlib, sys
        sys.path += ["lib", pathlib.Path("lib")]
        import here, there, trio, trio_ipc

        async def main():
            for function in (here.work, there.work):
                async with trio_ipc.open_child(function, cwd="/") as child:
                    print(await child.receive())

        trio.run(main)
    """
    done = await program.run("-c", code)  # where the current directory is the empty string
    assert (done.stdout, done.stderr, done.returncode) == ("here\nthere\n", "", 0)


@pytest.mark.parametrize("locale", ["the parent's", "C"])
async def test_names_of_files_that_are_not_in_the_locale_s_encoding(
    program: Program, locale: str
) -> None:
    folder = "d\xe9" + os.fsdecode(b"d\xe9")
    try:
        program.write(f"{folder}/beside.py", "async def work(parent): pass")
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    program.write(
        f"{folder}/script.py",
        HEAD,
        """
        import beside

        env = None
        if os.environ["LOCALE"] == "C":
            ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
            env = {**os.environ, **ascii_only}

        async def work(parent):
            await beside.work(parent)
            await parent.send([*map(os.fsencode, [*sys.argv, __file__, sys.path[0]])])

        async def main():
            async with trio_ipc.open_child(work, env=env) as child:
                expected = [*sys.argv, __file__, sys.path[0]]
                print(await child.receive() == [*map(os.fsencode, expected)])
        """,
        GUARDED,
    )
    script = str(program.folder / folder / "script.py")
    argument = os.fsdecode(b"caf\xe9.txt")
    done = await program.run(script, "\xe9", argument, env={"LOCALE": locale})
    assert (done.stdout, done.stderr, done.returncode) == ("True\n", "", 0)


async def test_a_child_of_a_script_has_children_of_the_same_script(program: Program) -> None:
    program.write(
        "script.py",
        HEAD,
        """
        async def work(parent, depth):
            if depth:
                async with trio_ipc.open_child(work, depth - 1, child_message_type=Job) as child:
                    await child.send(Job("again"))
                    await parent.send([depth, await child.receive()])
            else:
                await parent.send([type(await parent.receive()).__name__, __name__])

        class Job(msgspec.Struct):
            name: str

        async def main():
            async with trio_ipc.open_child(work, 2) as child:
                print(await child.receive())
        """,
        GUARDED,
    )
    done = await program.run("script.py")
    assert done.stderr == ""
    assert done.stdout == f"[2, [1, ['Job', '{IN_CHILD}']]]\n"
    assert program.names() == ["__main__", IN_CHILD, IN_CHILD, IN_CHILD]


# What goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["as a script", "as a module"])
async def test_without_the_guard_there_is_a_clear_error_and_no_second_child(
    program: Program, way: str
) -> None:
    program.write("script.py", HEAD, WORKER, "\ntrio.run(main)\n")
    done = await program.run(*(("script.py",) if way == "as a script" else ("-m", "script")))
    assert done.returncode == 1
    assert "ChildFailed" in done.stderr
    assert "the child can't import '__main__:work'" in done.stderr
    assert 'must stand under `if __name__ == "__main__":`' in done.stderr
    assert program.names() == ["__main__", IN_CHILD]


async def test_without_the_guard_open_child_itself_refuses(program: Program) -> None:
    program.write(
        "script.py",
        HEAD,
        WORKER,
        """
        made_too_early = trio_ipc.open_child(work, "hi")
        trio.run(main)
        """,
    )
    done = await program.run("script.py")
    assert done.returncode == 1
    assert "open_child was called while a child was importing this script" in done.stderr
    assert 'must stand under `if __name__ == "__main__":`' in done.stderr
    assert program.names() == ["__main__", IN_CHILD]


async def test_a_script_that_fails_when_it_is_imported(program: Program) -> None:
    program.write("script.py", HEAD, WORKER, "\nif __name__ != '__main__':\n    1 / 0\n", GUARDED)
    done = await program.run("script.py")
    assert done.returncode == 1
    assert "can't import '__main__:work': ZeroDivisionError: division by zero" in done.stderr
    assert program.names() == ["__main__", IN_CHILD]


async def test_a_function_that_is_defined_under_the_guard(program: Program) -> None:
    indented = textwrap.indent(textwrap.dedent(WORKER), "    ")
    program.write(
        "script.py", HEAD, f"if __name__ == '__main__':\n{indented}\n    trio.run(main)\n"
    )
    done = await program.run("script.py")
    assert done.returncode == 1
    assert "the child can't import '__main__:work'" in done.stderr
    assert "has no attribute 'work'" in done.stderr
    assert program.names() == ["__main__", IN_CHILD]


# What it takes over -----------------------------------------------------------------------------


async def test_flags_and_arguments_of_the_interpreter(program: Program) -> None:
    program.write(
        "script.py",
        HEAD,
        """
        async def work(parent):
            await parent.send(
                {
                    "argv": sys.argv,
                    "warnings": sys.warnoptions,
                    "options": sys._xoptions,
                    "flags": [sys.flags.optimize, sys.flags.dont_write_bytecode, sys.flags.no_site],
                    "path": sys.path,
                }
            )

        async def main():
            sys.argv.append("added")
            sys.path.insert(0, "/added/path")
            async with trio_ipc.open_child(work) as child:
                print(msgspec.json.encode(await child.receive()).decode())
                print(msgspec.json.encode(sys.path).decode())
        """,
        GUARDED,
    )
    flags = ["-W", "ignore::DeprecationWarning", "-X", "utf8", "-X", "faulthandler", "-O", "-B"]
    done = await program.run(*flags, "script.py", "one", "two three")
    assert done.stderr == ""
    child, path = map(msgspec.json.decode, done.stdout.splitlines())
    assert child == {
        "argv": ["script.py", "one", "two three", "added"],
        "warnings": ["ignore::DeprecationWarning"],
        "options": {"utf8": True, "faulthandler": True},
        "flags": [1, 1, 0],
        "path": path,
    }
    assert path[0] == "/added/path"


async def test_its_output_is_the_programs(program: Program) -> None:
    program.write(
        "script.py",
        HEAD,
        """
        async def work(parent, name):
            print("printed by", name)
            print("said by", name, file=sys.stderr)

        async def main():
            for name in ("first", "second"):
                async with trio_ipc.open_child(work, name):
                    pass
            print("printed by the parent")
        """,
        GUARDED,
    )
    done = await program.run("script.py")
    assert done.returncode == 0
    assert done.stdout == "printed by first\nprinted by second\nprinted by the parent\n"
    assert done.stderr == "said by first\nsaid by second\n"


@pytest.mark.parametrize("closed", [(0,), (1, 2), (0, 1, 2)], ids=str)
async def test_a_channel_is_never_where_standard_streams_should_be(
    program: Program, closed: tuple[int, ...]
) -> None:
    program.write(
        "script.py",
        HEAD,
        f"""
        async def work(parent):
            closed = []
            for number in range(3):
                try:
                    os.fstat(number)
                except OSError:
                    closed.append(number)
            await parent.send([parent.fileno(), closed])

        async def main():
            for number in {closed}:
                os.close(number)
            async with trio_ipc.open_child(work) as child:
                answer = await child.receive()
                numbers = [child.fileno(), answer]
            with open("result", "wb") as file:
                file.write(msgspec.json.encode(numbers))
            os._exit(0)  # Python itself complains at its end when these are closed
        """,
        GUARDED,
    )
    done = await program.run("script.py")
    assert done.returncode == 0
    ours, [theirs, _] = msgspec.json.decode((program.folder / "result").read_bytes())
    assert ours > 2
    assert theirs > 2
