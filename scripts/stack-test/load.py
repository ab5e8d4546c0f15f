#!/usr/bin/env python3
"""Lets travellers walk through the platform until a file is gone, then says how many answers were good.

Each visitor is one traveller after another, from an address of its own: the front page, sign-up, sign-in, profile, search, cart,
checkout, card, confirmed booking. A failure is no answer, a status that was not expected, or a booking that is not confirmed.
After a failure the traveller gives up and the next one comes. A visitor does not end before one of its travellers has arrived.

Usage: load.py [--pay URL] [--visitors N] [--pause SECONDS] [--tolerate SECONDS] BASE RUNNING_FILE
       load.py --pages [--visitors N] [--pause SECONDS] BASE RUNNING_FILE PATH...
  --pay URL    the payment provider's API; without it a journey ends at the cart
  --tolerate   failures may happen within so many seconds from the first to the last, if travellers arrive afterwards
  --pages      no journey: these pages, one after another
"""
import argparse
import collections
import datetime
import http.client
import json
import pathlib
import secrets
import sys
import threading
import time
import urllib.parse

PATIENCE = 90  # for a booking to be confirmed, by webhook and event
LAST_TRIES = 120  # how long a visitor goes on after the end, to see somebody arrive

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("--pay")
parser.add_argument("--visitors", type=int, default=4)
parser.add_argument("--pause", type=float, default=0.1)
parser.add_argument("--tolerate", type=float)
parser.add_argument("--pages", action="store_true")
parser.add_argument("base", type=urllib.parse.urlsplit)
parser.add_argument("running", type=pathlib.Path)
parser.add_argument("paths", nargs="*")
options = parser.parse_args()

seen, lock = collections.Counter(), threading.Lock()
slowest, failures, arrivals = [0.0], [], []


class GaveUp(Exception):
    """A traveller had a failure."""


def count(what, began, where):
    with lock:
        seen[what] += 1
        slowest[0] = max(slowest[0], time.monotonic() - began)
        if what != "good":
            failures.append(time.monotonic())
            if seen[what] <= 20:
                print(f"{datetime.datetime.now():%H:%M:%S} {what} {where}", file=sys.stderr)


class Traveller:
    """A browser: one connection, cookies, an address."""

    def __init__(self, address):
        self.address, self.connection, self.cookies, self.bearer = address, None, {}, None

    def ask(self, method, path, body=None, wanted=(200,)):
        time.sleep(options.pause)
        headers = {"X-Forwarded-For": self.address, "Accept": "application/json"}
        if self.bearer:
            headers["Authorization"] = f"Bearer {self.bearer}"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            headers["Sec-Fetch-Site"] = "same-origin"
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        began, place = time.monotonic(), f"{method} {path.split('?')[0]}"
        try:
            self.connection = self.connection or http.client.HTTPConnection(options.base.hostname, options.base.port, timeout=35)
            self.connection.request(method, path, body, headers)
            answer = self.connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection = None
            count(type(error).__name__, began, place)
            raise GaveUp from error
        if answer.will_close:
            self.connection = None
        if answer.status not in wanted:
            count(str(answer.status), began, f"{place} {data[:300]!r}")
            raise GaveUp
        count("good", began, place)
        for line in answer.headers.get_all("Set-Cookie") or []:
            name, _, value = line.split(";")[0].partition("=")
            self.cookies[name] = value
            if not value:
                del self.cookies[name]
        return json.loads(data) if answer.headers.get_content_type() == "application/json" and data else None


def pay(payment):
    """The card form: what the provider's script does in the browser."""
    began, base = time.monotonic(), urllib.parse.urlsplit(options.pay)
    form = {
        "key": payment["publishableKey"], "client_secret": payment["clientSecret"], "payment_method_data[type]": "card",
        "payment_method_data[card][number]": "4242424242424242", "payment_method_data[card][exp_month]": "12",
        "payment_method_data[card][exp_year]": "34", "payment_method_data[card][cvc]": "123",
        "return_url": "https://dreamscape.invalid/payment/confirmation",
    }
    connection = http.client.HTTPConnection(base.hostname, base.port, timeout=30)
    try:
        connection.request("POST", f"/v1/payment_intents/{payment['paymentIntentId']}/confirm", urllib.parse.urlencode(form),
                           {"Content-Type": "application/x-www-form-urlencoded"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        count(type(error).__name__, began, "the card form")
        raise GaveUp from error
    finally:
        connection.close()
    if answer.status != 200:
        count(str(answer.status), began, "the card form")
        raise GaveUp


def journey(traveller):
    unique = secrets.token_hex(8)
    account = {"email": f"traveller.{unique}@example.com", "password": f"Dream-{unique}aA1!"}
    traveller.ask("GET", "/")
    traveller.ask("GET", "/health")
    traveller.ask("POST", "/api/v1/auth/register", {**account, "firstName": "Ada", "lastName": "Traveller"}, (201,))
    tokens = traveller.ask("POST", "/api/v1/auth/login", account)["data"]["tokens"]
    traveller.bearer = tokens["accessToken"]
    traveller.ask("GET", "/api/v1/users/profile")
    codes = [traveller.ask("GET", f"/api/v1/locations/search?keyword={city}&subType=CITY")["data"][0]["iataCode"] for city in ("Paris", "Tokyo")]
    day = datetime.date.today() + datetime.timedelta(days=60)
    offer = traveller.ask("GET", f"/api/v1/flights/search?originLocationCode={codes[0]}&destinationLocationCode={codes[1]}&departureDate={day}&adults=1")["data"][0]
    price = offer["price"]
    item = {"type": "FLIGHT", "itemId": offer["id"], "itemData": offer, "price": price["total"], "currency": price["currency"], "quantity": 1}
    traveller.ask("POST", "/api/v1/cart/items", item, (201,))
    traveller.ask("GET", "/api/v1/cart")
    traveller.ask("GET", "/api/v1/users/notifications")
    if not options.pay:
        return
    bought = traveller.ask("POST", "/api/v1/cart/checkout", {})["data"]
    pay(bought["payment"])
    began = time.monotonic()
    while traveller.ask("GET", f"/api/v1/bookings/{bought['bookingReference']}")["data"]["status"] != "CONFIRMED":
        if time.monotonic() - began > PATIENCE:
            count("not confirmed", began, bought["bookingReference"])
            raise GaveUp
        time.sleep(0.3)
    traveller.ask("GET", "/api/v1/bookings")


def visitor(number):
    """One traveller after another."""
    turn, arrived, ended = number, False, None
    while True:
        turn += options.visitors
        traveller = Traveller(f"198.{18 + turn // 62500 % 2}.{turn // 250 % 250}.{turn % 250 + 1}")
        try:
            if options.pages:
                traveller.ask("GET", options.paths[turn % len(options.paths)])
            else:
                journey(traveller)
            arrived = True
            with lock:
                arrivals.append(time.monotonic())
        except GaveUp:
            arrived = False
            time.sleep(0.3)
        except (KeyError, IndexError, TypeError, ValueError) as error:
            arrived = False
            count(f"{type(error).__name__} in an answer", time.monotonic(), "")
        if traveller.connection:
            traveller.connection.close()
        if not options.running.exists():
            ended = ended or time.monotonic()
            if arrived or time.monotonic() - ended > LAST_TRIES:
                return


threads = [threading.Thread(target=visitor, args=(number,)) for number in range(options.visitors)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
good, failed = seen.pop("good", 0), sum(seen.values())
said = f"{good + failed} requests, {failed} failed"
window = failures[-1] - failures[0] if failures else 0.0
if failed:
    said += f" ({', '.join(f'{many} x {what}' for what, many in seen.most_common(4))}; {window:.0f} s from first to last)"
if not options.pages:
    said += f", {len(arrivals)} {'bookings' if options.pay else 'journeys'}"
print(f"{said}, slowest {slowest[0]:.1f} s")
recovered = bool(arrivals) and (not failures or arrivals[-1] > failures[-1])
sys.exit(0 if good and recovered and (not failed or (options.tolerate is not None and window <= options.tolerate)) else 1)
