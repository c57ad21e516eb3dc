#!/usr/bin/env bash
# Renders all variants with compose's own loader, built from its Go module: needs Go 1.23, and no container engine.
#   scripts/compose-config.sh            checks base, dev, test, prod, with monitoring; that none shows a secret of the environment; and that prod is
#                                        refused while something required is not set
# LOADER=/path uses one that was built before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
VERSION=v2.9.1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

if [[ -z ${LOADER:-} ]]; then
  command -v go >/dev/null || { echo "Go is needed to build the loader: install Go 1.23 or newer, or name a loader that was built elsewhere: LOADER=/path" >&2; exit 1; }
  cat >"$folder/main.go" <<'GO'
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/compose-spec/compose-go/v2/cli"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithWorkingDirectory("."), cli.WithOsEnv, cli.WithDefaultProfiles())
	if err == nil {
		project, problem := options.LoadProject(context.Background())
		if err = problem; err == nil {
			var text []byte
			if text, err = project.MarshalYAML(); err == nil {
				fmt.Print(string(text))
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
GO
  (cd "$folder" && go mod init loader && go get "github.com/compose-spec/compose-go/v2@$VERSION" && go mod tidy && nice go build -o loader .) 2>"$folder/log" ||
    { tail -n 5 "$folder/log" >&2; exit 1; }
  LOADER=$folder/loader
fi

required=(TALLYCLERK_SECRETS_FOLDER=/secrets TALLYCLERK_TLS_FOLDER=/tls TALLYCLERK_BIND_ADDRESS=127.0.0.1
  TALLYCLERK_AIRFLOW_URL=https://airflow.example.com TALLYCLERK_SHOP_URL=https://shop.example.com)
# each secret has a value that must not come out again
mapfile -t secrets < <(sed -n 's/^    "\(TALLYCLERK_[A-Z_]*\)": _.*/\1/p' stack/dotenv_file.py)
clean=(env -i "PATH=$PATH" "HOME=$HOME" COMPOSE_PROFILES=monitoring "${secrets[@]/%/=s3cret-value}")
for variant in base dev test prod; do
  files=(docker-compose.yaml)
  [[ $variant == base ]] || files+=("docker-compose.$variant.yaml")
  "${clean[@]}" "${required[@]}" "$LOADER" "${files[@]}" >"$folder/$variant.yaml"
  echo "$variant: $(grep -c '^    image: ' "$folder/$variant.yaml") services"
done
if grep -l s3cret-value "$folder"/*.yaml >&2; then
  echo "a secret stands in what compose renders" >&2
  exit 1
fi
echo "secrets: none of ${#secrets[@]} is in the output"
for variable in "${required[@]}"; do
  given=("${required[@]/$variable/UNUSED=1}")
  if "${clean[@]}" "${given[@]}" "$LOADER" docker-compose.yaml docker-compose.prod.yaml >/dev/null 2>"$folder/refusal"; then
    echo "prod starts without ${variable%%=*}" >&2
    exit 1
  fi
  grep -q "${variable%%=*}" "$folder/refusal" || { cat "$folder/refusal" >&2; exit 1; }
done
echo "prod: refused without any of ${#required[@]} required variables"
