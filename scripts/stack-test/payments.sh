#!/usr/bin/env bash
# Runs the double of the payment provider with the keys of the stack. Usage: payments.sh
#   STRIPE_PUBLISHABLE_KEY   as the business pod has it; the secret key and the webhook's secret are /run/secrets/stripe_*
#   WEBHOOK_URL              where it sends its events
set -euo pipefail
umask 077
data=/tmp/devkit
mkdir -p "$data"
# what the double keeps between two starts, made beforehand: the keys are those of the stack, and the port is known
jq -n --rawfile key /run/secrets/stripe_secret_key --rawfile webhook /run/secrets/stripe_webhook_secret --arg public "${STRIPE_PUBLISHABLE_KEY:?}" '{
    stripe: {port: 12111, secret_key: ($key | rtrimstr("\n")), publishable_key: $public, webhook_secret: ($webhook | rtrimstr("\n"))},
    s3: {port: 0, access_key: "unused", secret_key: "unused"}, signing_key: {kid: "unused", seed: ""}, service_clients: {}
}' >"$data/checkout.json"
haproxy -W -db -f /etc/haproxy/haproxy.cfg &
# its first lines are settings, keys among them
exec /devkit --data "$data" --need stripe --webhook "${WEBHOOK_URL:?}" >/dev/null
