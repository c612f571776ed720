"""Stages that worker processes can import."""

import os
import signal
import time
from pathlib import Path

from hallo4.errors import InputError, OutputError


def square(settings):
    return lambda number: number * number


def add(amount):
    return lambda number: number + amount


def slow_first(seconds):
    """The first record takes longest."""

    def work(number):
        time.sleep(seconds if number == 0 else 0)
        return number

    return work


def picky(settings):
    """Record 3 is a user's mistake, 5 is one of ours."""

    def work(number):
        if number == 3:
            raise InputError("three: is not allowed. Take another.")
        if number == 5:
            raise KeyError("five")
        return number

    return work


def full_disk(settings):
    def work(number):
        raise OutputError("no space")

    return work


def cannot_open(settings):
    raise InputError("these networks are not here")


def dies_opening(settings):
    os.kill(os.getpid(), signal.SIGKILL)


class Mortal:
    """Dies of the record `of`, `times` times; every death is a file in `folder`."""

    def __init__(self, settings):
        folder, self.of, self.times = settings
        self.folder = Path(folder)

    def __call__(self, number):
        deaths = len(list(self.folder.iterdir()))
        if number == self.of and deaths < self.times:
            (self.folder / f"death_{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number


def process_id(settings):
    opened = os.getpid()
    return lambda number: (opened, os.getpid())


def sleeper(seconds):
    def work(number):
        if number >= 2:
            time.sleep(seconds)
        return os.getpid()

    return work


def threads(settings):
    def work(number):
        import torch

        return torch.get_num_threads()

    return work
