"""A Tailrace handler in Python:  from tailrace_handler import run;  run(lambda event, id, attempt: ...)

The message is done when the function returns. An exception is answered, and the message tried again; Refused says that
trying again would not help.
"""
import json, os, signal, sys


class Refused(Exception):
    pass


def run(handle):
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the function prints is log, and never an answer
    state = {"stop": False, "idle": True}

    def finish(*_):
        state["stop"] = True
        if state["idle"]:
            sys.exit(0)

    signal.signal(signal.SIGTERM, finish)
    while not state["stop"] and (line := sys.stdin.readline()):
        state["idle"] = False
        task = json.loads(line)
        try:
            handle(task["event"], task["id"], task["attempt"])
            answer = {"ok": True}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}", "retry": not isinstance(error, Refused)}
        answers.write(json.dumps({"id": task["id"], **answer}) + "\n")
        state["idle"] = True
