"""python-cqrs as a subject of the benchmarks, over JSON lines on standard input and output.

Set up as the package's README and examples show it: `bootstrap.bootstrap` with mappers and a `di.Container`, which adds
the logging middleware; requests, responses and events of the default kinds (pydantic); logging left as the import of
the package leaves it, its logger at DEBUG and no handler anywhere, so that records are made and then dropped; events
one at a time except in W4, which sets the two options of bootstrap that the README names.

With EVENT_FLOW_BENCH_PYTHON_FAST=1 the fastest set-up that the package allows: dataclasses where they are faster, a
container that only calls the class, no logging middleware and no debug records.
"""

import asyncio
import dataclasses
import importlib.metadata
import json
import logging
import os
import platform
import sys
import time

import di
import orjson

import cqrs
from cqrs.events import DCDomainEvent, EventEmitter, EventHandler, EventMap, NotificationEvent
from cqrs.message_brokers.protocol import Message, MessageBroker
from cqrs.requests import bootstrap
from cqrs.requests.map import RequestMap
from cqrs.requests.request import DCRequest
from cqrs.requests.request_handler import RequestHandler
from cqrs.response import DCResponse

FAST = os.environ.get("EVENT_FLOW_BENCH_PYTHON_FAST") == "1"

if FAST:
    # The package turns its own logger to DEBUG: a record for every handler.
    logging.getLogger("cqrs").setLevel(logging.WARNING)

config = json.loads(sys.stdin.readline())
MEETING_ID = config["meetingId"]
USER_ID = config["userId"]
FAN_OUT = config["fanOut"]
DEPTH = config["depth"]


class Tally:
    __slots__ = ("commands", "handlers", "seats", "answers", "messages", "bytes")

    def __init__(self):
        for name in self.__slots__:
            setattr(self, name, 0)


tally = Tally()


def reset():
    for name in Tally.__slots__:
        setattr(tally, name, 0)


if FAST:

    @dataclasses.dataclass
    class JoinMeeting(DCRequest):
        meeting_id: str
        user_id: str
        seat: int

    @dataclasses.dataclass
    class Joined(DCResponse):
        seat: int

    @dataclasses.dataclass(frozen=True)
    class UserJoined(DCDomainEvent):
        meeting_id: str
        user_id: str
        seat: int

    @dataclasses.dataclass(frozen=True)
    class StepTaken(DCDomainEvent):
        meeting_id: str
        user_id: str
        seat: int
        depth: int

else:

    class JoinMeeting(cqrs.Request):
        meeting_id: str
        user_id: str
        seat: int

    class Joined(cqrs.Response):
        seat: int

    class UserJoined(cqrs.DomainEvent, frozen=True):
        meeting_id: str
        user_id: str
        seat: int

    class StepTaken(cqrs.DomainEvent, frozen=True):
        meeting_id: str
        user_id: str
        seat: int
        depth: int


# pydantic in both set-ups: `to_dict` of the dataclass kind takes longer than the whole of it.
UserJoinedAbroad = NotificationEvent[dict]


class Join(RequestHandler[JoinMeeting, Joined]):
    async def handle(self, request):
        tally.commands += 1
        return Joined(seat=request.seat)


class Emitting(RequestHandler[JoinMeeting, Joined]):
    def __init__(self):
        self._events = []

    @property
    def events(self):
        return self._events


class JoinOne(Emitting):
    async def handle(self, request):
        tally.commands += 1
        self._events.append(UserJoined(meeting_id=request.meeting_id, user_id=request.user_id, seat=request.seat))
        return Joined(seat=request.seat)


class JoinMany(Emitting):
    async def handle(self, request):
        tally.commands += 1
        for _ in range(FAN_OUT):
            self._events.append(UserJoined(meeting_id=request.meeting_id, user_id=request.user_id, seat=request.seat))
        return Joined(seat=request.seat)


class JoinStep(Emitting):
    async def handle(self, request):
        tally.commands += 1
        step = StepTaken(meeting_id=request.meeting_id, user_id=request.user_id, seat=request.seat, depth=1)
        self._events.append(step)
        return Joined(seat=request.seat)


class JoinAbroad(Emitting):
    async def handle(self, request):
        tally.commands += 1
        payload = {"meetingId": request.meeting_id, "userId": request.user_id, "seat": request.seat}
        self._events.append(UserJoinedAbroad(event_name="UserJoined", payload=payload))
        return Joined(seat=request.seat)


def on_joined():
    class OnJoined(EventHandler[UserJoined]):
        async def handle(self, event):
            tally.handlers += 1
            tally.seats += event.seat

    return OnJoined


def on_joined_slowly():
    class OnJoinedSlowly(EventHandler[UserJoined]):
        async def handle(self, event):
            tally.handlers += 1
            tally.seats += event.seat
            await asyncio.sleep(0.001)

    return OnJoinedSlowly


class OnStep(EventHandler[StepTaken]):
    def __init__(self):
        self._events = ()

    @property
    def events(self):
        return self._events

    async def handle(self, event):
        tally.handlers += 1
        tally.seats += event.seat
        if event.depth < DEPTH:
            step = StepTaken(
                meeting_id=event.meeting_id, user_id=event.user_id, seat=event.seat, depth=event.depth + 1
            )
            self._events = (step,)


class FastContainer:
    external_container = None

    def attach_external_container(self, container):
        pass

    async def resolve(self, type_):
        return type_()


class Nothing(MessageBroker):
    async def send_message(self, message: Message):
        tally.messages += 1
        tally.bytes += len(orjson.dumps(message.payload))


def mediator(command_handler, handlers, at_once=1):
    def commands_mapper(mapper):
        mapper.bind(JoinMeeting, command_handler)

    def events_mapper(mapper):
        for event, handler in handlers:
            mapper.bind(event, handler)

    if not FAST:
        return bootstrap.bootstrap(
            di_container=di.Container(),
            commands_mapper=commands_mapper,
            domain_events_mapper=events_mapper,
            message_broker=Nothing(),
            max_concurrent_event_handlers=at_once,
            concurrent_event_handle_enable=at_once > 1,
        )
    requests = RequestMap()
    commands_mapper(requests)
    events = EventMap()
    events_mapper(events)
    container = FastContainer()
    return cqrs.RequestMediator(
        request_map=requests,
        container=container,
        event_emitter=EventEmitter(events, container, Nothing()),
        event_map=events,
        max_concurrent_event_handlers=at_once,
        concurrent_event_handle_enable=at_once > 1,
    )


mediators = {
    "W1": mediator(Join, []),
    "W2": mediator(JoinOne, [(UserJoined, on_joined())]),
    "W3": mediator(JoinMany, [(UserJoined, on_joined()) for _ in range(3)]),
    "W4": mediator(JoinMany, [(UserJoined, on_joined_slowly()) for _ in range(3)], at_once=FAN_OUT),
    "W5": mediator(JoinStep, [(StepTaken, OnStep)]),
    "W6": mediator(JoinAbroad, []),
}


async def sample(send, units):
    start = time.perf_counter_ns()
    for unit in range(units):
        response = await send(JoinMeeting(meeting_id=MEETING_ID, user_id=USER_ID, seat=unit % 1000))
        tally.answers += response.seat
    return time.perf_counter_ns() - start


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main():
    # The results' metadata tells the set-ups apart by `di`, which the fast one does without.
    packages = [f"{name}@{importlib.metadata.version(name)}" for name in ["python-cqrs"] + ([] if FAST else ["di"])]
    say({"ready": True, "python": platform.python_version(), "packages": packages})
    # Reading blocks the loop, which has nothing to do between samples.
    for line in sys.stdin:
        question = json.loads(line)
        reset()
        ns = await sample(mediators[question["workload"]].send, question["units"])
        say({"ns": ns, "tally": {name: getattr(tally, name) for name in Tally.__slots__}})


asyncio.run(main())
