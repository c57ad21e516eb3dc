#!/usr/bin/env bash
# fetch-jars.sh MAVEN TARGET NAME...: the jars of MAVEN/NAME/pom.xml, to TARGET/NAME, as stack/jars.py lays them on one machine.
set -euo pipefail
maven=$1 target=$2
shift 2
for name in "$@"; do
  mvn -q -B -Dstyle.color=never -f "$maven/$name/pom.xml" "-Darchives=$target/$name" generate-resources \
    org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DincludeScope=runtime "-DoutputDirectory=$target/$name"
done
