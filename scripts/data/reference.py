#!/usr/bin/env python3
"""Makes business-pod/data/reference.tsv.zst, the reference data that the voyage service embeds.

Needs Python 3 (standard library), the `zstd` program and the wheel of airportsdata (MIT):

    pip download --no-deps --dest /tmp airportsdata==20260905
    scripts/data/reference.py /tmp/airportsdata-20260905-py3-none-any.whl

The other sources stand beside this file and are our own: carriers and hubs, countries and regions, the order of the
busiest airports, names of cities as travellers know them, other names for them. The output is the same for the same
sources; `--check` only tells whether the committed file still follows from them.

The output is UTF-8 text, one section per kind of row; a line `#name count` opens a section, fields are separated by
tabs, sections stand in the order in which their rows refer to each other.
"""

import csv
import io
import pathlib
import re
import subprocess
import sys
import unicodedata
import zipfile

HERE = pathlib.Path(__file__).resolve().parent
OUTPUT = HERE.parent.parent / "business-pod" / "data" / "reference.tsv.zst"


def own(name):
    """The rows of one of our own tables."""
    return list(csv.DictReader((HERE / name).read_text(encoding="utf-8").splitlines()))


def codes(name):
    """The codes of one of our own lists."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    return [code for line in lines if not line.startswith("#") for code in line.split()]


def plain(text):
    """Lower case without accents and signs, as the search index compares names."""
    text = text.replace("ø", "o").replace("Ø", "O").replace("ł", "l").replace("Ł", "L").replace("ß", "ss")
    text = "".join(sign for sign in unicodedata.normalize("NFKD", text) if not unicodedata.combining(sign))
    return " ".join(re.sub(r"[^a-z0-9]+", " ", text.lower()).split())


def city_name(row, names):
    """The city as a traveller knows it: `Bordeaux/Merignac` is Bordeaux, `Lanzarote Island` is Lanzarote."""
    if row["iata"] in names:
        return names[row["iata"]]
    city = row["city"].split("/")[0].split(" (")[0].split(",")[0].strip()
    city = re.sub(r" Island$", "", city)
    if city:
        return city
    # no city in the source: the airport's own name without what every airport is called
    return re.sub(r"\s+(International\s+)?(Airport|Airstrip|Airfield|Aerodrome)$", "", row["name"]).strip()


def rank(row, position, majors, closed, hubs):
    """0 to 1000: how much traffic. Up to 50 no scheduled flights, from 400 on an airport has long flights of its own."""
    iata, name = row["iata"], row["name"].lower()
    if iata in closed:
        return 0
    if iata in position:
        return 1000 - (600 * position[iata]) // len(majors)
    if iata in hubs:
        return 400
    no_flights = ("heliport", "seaplane", "air base", "airbase", "air force", "army", "airstrip", "naval", "railway",
                  "bus station", "field", "strip", "helipad", "military", "raf ", "afb")
    if any(word in name for word in no_flights) and "international" not in name:
        return 30
    if "international" in name:
        return 280
    if "regional" in name or "municipal" in name:
        return 160 if row["country"] != "US" else 100
    return 140 if name.endswith("airport") else 50


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--check"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    with zipfile.ZipFile(arguments[0]) as wheel:
        def table(name):
            return list(csv.DictReader(io.StringIO(wheel.read("airportsdata/" + name).decode("utf-8"))))
        rows = sorted((row for row in table("airports.csv") if row["iata"]), key=lambda row: row["iata"])
        metro_rows = table("iata_macs.csv")

    majors, closed = list(dict.fromkeys(codes("major_airports.txt"))), set(codes("closed_airports.txt"))
    position = {code: index for index, code in enumerate(majors)}
    names = {row["iata"]: row["city"] for row in own("city_names.csv")}
    carriers = own("carriers.csv")
    hubs = {hub for carrier in carriers for hub in carrier["hubs"].split()}
    countries = own("countries.csv")
    by_code = {row["iata"]: row for row in rows}

    metros = {}
    for row in metro_rows:
        metros.setdefault(row["City Code"], (row["City Name"], []))[1].append(row["Airport Code"])
    for row in own("extra_metros.csv"):
        metros.setdefault(row["code"], (row["name"], []))[1].extend(row["airports"].split())
    metros = {code: (name, [airport for airport in dict.fromkeys(airports) if airport in by_code])
              for code, (name, airports) in metros.items()}
    metro_of = {airport: code for code, (_, airports) in sorted(metros.items()) for airport in airports}

    problems = [f"{carrier['iata']}: unknown hub {hub}" for carrier in carriers
                for hub in carrier["hubs"].split() if hub not in by_code]
    problems += [f"unknown airport {code}" for code in [*majors, *names] if code not in by_code]
    problems += [f"alias of unknown code {row['code']}" for row in own("aliases.csv")
                 if row["code"] not in by_code and row["code"] not in metros]
    known_countries = {row["code"] for row in countries}
    problems += [f"unknown country {row['country']}" for row in [*rows, *carriers] if row["country"] not in known_countries]
    if problems:
        sys.exit("\n".join(problems))

    zones = sorted({row["tz"] for row in rows})
    zone_index = {zone: index for index, zone in enumerate(zones)}
    lines = []

    def section(name, content):
        lines.append(f"#{name} {len(content)}")
        lines.extend("\t".join(str(field) for field in fields) for fields in content)

    section("countries", [(row["code"], row["region"], row["name"]) for row in countries])
    section("zones", [(zone,) for zone in zones])
    section("airports", [
        (row["iata"], row["icao"], row["name"], metros[metro_of[row["iata"]]][0] if row["iata"] in metro_of
         and row["iata"] not in names else city_name(row, names), row["country"], f"{float(row['lat']):.4f}",
         f"{float(row['lon']):.4f}", zone_index[row["tz"]], rank(row, position, majors, closed, hubs))
        for row in rows])
    section("metros", [(code, name, " ".join(airports)) for code, (name, airports) in sorted(metros.items())])
    section("carriers", [(row["iata"], row["icao"], row["name"], row["country"], row["kind"], row["hubs"])
                         for row in sorted(carriers, key=lambda row: row["iata"])])
    section("aliases", [(plain(row["alias"]), row["code"]) for row in own("aliases.csv")])
    text = ("\n".join(lines) + "\n").encode("utf-8")

    if "--check" in sys.argv:
        present = subprocess.run(["zstd", "-dc", str(OUTPUT)], check=True, capture_output=True).stdout
        sys.exit(0 if present == text else f"{OUTPUT.name} does not follow from its sources: run {pathlib.Path(__file__).name}")
    packed = subprocess.run(["zstd", "-19", "--ultra", "--no-check", "-c"], input=text, check=True, capture_output=True).stdout
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_bytes(packed)
    print(f"{len(rows)} airports, {len(metros)} metropolitan areas, {len(carriers)} carriers: "
          f"{len(text)} bytes, {len(packed)} compressed")


if __name__ == "__main__":
    main()
