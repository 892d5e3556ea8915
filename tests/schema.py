#!/usr/bin/env python3
"""Every file we ship keeps to the JSON Schema that `evenkeel schema` prints; files with a mistake do not.

Usage: tests/schema.py SCHEMA FILE...    The last line is `N passed, N failed`; 77: a module is missing.
"""

import json
import sys

try:
    import jsonschema
    import yaml
except ImportError as missing:
    print(f"skipped: the schema test needs python3-jsonschema and python3-yaml ({missing})")
    sys.exit(77)

# Each must be refused: a key or a value that the program refuses too.
WRONG = [
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], wieght: 1}}",
    "listeners: {a: {backends: [10.0.0.1:80]}}",
    "listeners: {a: {bind: 80, backends: []}}",
    "listeners: {a: {bind: 80, backends: [{name: x}]}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], balance: fastest}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], timeouts: {idle: 30}}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], health: {rise: 0}}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], passive: {max_ejected: 120%}}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], limits: {rate: 5}}}",
    "pools: {p: {backends: [10.0.0.1:80], queue: on}}",
    "listeners: {a: {bind: [], backends: [10.0.0.1:80]}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], backlog: 65536}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], limits: {rate: 5/h}}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], health: {check: {dns: {type: A}}}}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80], health: {check: {tcp: {send: a}, udp: {send: a}}}}}",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80]}}\nworkers: 0",
    "listeners: {a: {bind: 80, backends: [10.0.0.1:80]}}\nlog: {level: loud}",
    "workers: 4",
]

# Each must be taken: the program takes it too.
RIGHT = [
    "listeners: {a: {bind: 80-90, backends: [10.0.0.1:80], deny: 10.0.0.1, keepalive: off, freebind: on}}",
    "listeners: {5: {bind: [80, 10.0.0.5:81], backends: [10.0.0.1:80], balance: {source_hash: {bounded_load: 1.25}}}}",
    "listeners: {a: {bind: 53, protocol: udp, pool: 5}}\npools: {5: {backends: [10.0.0.1], passive: {}, sticky: off}}",
    "defaults: {listener: {udp: {responses: 1}}, pool: {connect_from: 10.0.0.5}}\n"
    "listeners: {a: {bind: 80, backends: [{address: 10.0.0.1:80, name: 7, weight: 0}], health: {check: off}}}",
]


def main() -> int:
    schema_path, *files = sys.argv[1:]
    with open(schema_path, encoding="utf-8") as file:
        schema = json.load(file)
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    passed = failed = 0
    for path in files:
        with open(path, encoding="utf-8") as file:
            errors = sorted(validator.iter_errors(yaml.safe_load(file)), key=str)
        for error in errors:
            print(f"{path}: {error.json_path}: {error.message}")
        passed, failed = passed + (not errors), failed + bool(errors)
    for text in WRONG:
        refused = next(validator.iter_errors(yaml.safe_load(text)), None) is not None
        if not refused:
            print(f"the schema takes what the program refuses: {text}")
        passed, failed = passed + refused, failed + (not refused)
    for text in RIGHT:
        errors = [error.message for error in validator.iter_errors(yaml.safe_load(text))]
        if errors:
            print(f"the schema refuses what the program takes: {text}: {errors}")
        passed, failed = passed + (not errors), failed + bool(errors)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
