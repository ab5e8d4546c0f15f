#!/usr/bin/env bash
# Buckets and accounts of the object store: the policies are asked of a real S3 server that enforces them (moto's; MinIO itself cannot be
# had from the registries a test machine reaches), the job runs with a stand-in for `mc` that keeps its state. contract: operations R-056
# shellcheck disable=SC2317,SC2119,SC2120  # functions are called by name, by `check`
set -euo pipefail
[ "${1:-}" != --help ] || { echo "Usage: dataplane-minio.sh   (KEEP=1 keeps the scratch folder)"; exit 0; }
# shellcheck source=scripts/ci/ops/lib/dataplane.sh
. "$(dirname "$0")/lib/dataplane.sh"
# shellcheck source=scripts/ci/ops/lib/dataplane-s3.sh
. "$(dirname "$0")/lib/dataplane-s3.sh"
policies=$root/docker/minio/policies
skip V8 R-056 "MinIO and mc themselves: no registry that a test machine reaches has them; policies against moto, the job against a stand-in"

# -- The job
mkdir -p "$scratch/bin" "$scratch/secrets"
cat >"$scratch/bin/mc" <<'FAKE'
#!/usr/bin/env bash
# Keeps buckets, anonymous access, policies, accounts and attachments as files.
set -euo pipefail
state=${FAKE_DIR:?}/mc
mkdir -p "$state"
echo "$*" >>"$FAKE_DIR/transcript"
[ -n "${MC_HOST_dreamscape:-}" ] || { echo "no address" >&2; exit 1; }
case "$1 ${2:-} ${3:-}" in
    "ready dreamscape "*) [ ! -e "$FAKE_DIR/down" ] ;;
    "mb --ignore-existing "*) touch "$state/bucket-${3#dreamscape/}" ;;
    "anonymous set private") echo private >"$state/anonymous-${4#dreamscape/}" ;;
    "anonymous set-json "*) cp "$3" "$state/anonymous-${4#dreamscape/}" ;;
    "admin policy create") cp "$6" "$state/policy-$5" ;;
    "admin user add") read -r access; read -r secret; echo "$secret" >"$state/user-$access" ;;
    "admin policy attach")
        [ -e "$state/user-$7" ] && [ -e "$state/policy-$5" ]
        # as mc does: attaching again is an error
        [ ! -e "$state/attached-$7" ] || { echo "already attached" >&2; exit 1; }
        echo "$5" >"$state/attached-$7" ;;
    "admin policy entities") cat "$state/attached-$6" ;;
    *) echo "the stand-in for mc does not know: $*" >&2; exit 1 ;;
esac
FAKE
chmod +x "$scratch/bin/mc"
export FAKE_DIR=$scratch
for name in root-user root-password access secret backup-access backup-secret; do secret | cut -c1-40 >"$scratch/secrets/$name"; done
init() {
    PATH="$scratch/bin:$PATH" MINIO_ROOT_USER_FILE=$scratch/secrets/root-user MINIO_ROOT_PASSWORD_FILE=$scratch/secrets/root-password MINIO_WAIT_SECONDS=1 \
        S3_ACCESS_KEY_FILE=$scratch/secrets/access S3_SECRET_KEY_FILE=$scratch/secrets/secret \
        BACKUP_S3_ACCESS_KEY_FILE=$scratch/secrets/backup-access BACKUP_S3_SECRET_KEY_FILE=$scratch/secrets/backup-secret "$root/docker/minio/init.sh" "$@"
}
check V8 R-056 "a dry run makes nothing" init --dry-run
check V8 R-056 "and did not" equal "" "$(ls "$scratch/mc")"
check V8 R-056 "init.sh makes buckets, policies and accounts" init
check V8 R-056 "a second run changes nothing and succeeds" init
check V8 R-056 "the four buckets of the contract" equal "dreamscape-ai-generations dreamscape-backups dreamscape-user-uploads dreamscape-vr-assets" \
    "$(cd "$scratch/mc" && for f in bucket-*; do echo "${f#bucket-}"; done | xargs)"
only_assets_public() {
    equal "private private private" "$(cat "$scratch/mc"/anonymous-dreamscape-{ai-generations,backups,user-uploads} | xargs)" &&
        cmp "$scratch/mc/anonymous-dreamscape-vr-assets" "$policies/vr-assets-anonymous.json"
}
check V8 R-056 "anonymous reading of vr-assets alone" only_assets_public
no_secret() { ! grep -qFf <(cat "$scratch"/secrets/{root-password,secret,backup-secret} | fold -w 40) "$scratch/transcript"; }
check V8 R-078 "no secret on mc's command line" no_secret
secret >"$scratch/secrets/secret"
init >/dev/null
check V8 R-079 "a rotated secret reaches its account" equal "$(cat "$scratch/secrets/secret")" "$(cat "$scratch/mc/user-$(cat "$scratch/secrets/access")")"
printf 'a/b+c=============================' >"$scratch/secrets/backup-secret"
check V8 R-076 "a secret that clients would encode differently is refused" refused_with "letters and digits" init
: >"$scratch/down"
check V8 R-056 "a store that does not answer is an error" refused_with "does not answer" init

# -- The policies, asked of a server that enforces them
start_s3 || { skip V8 R-056 "moto's S3 server is not here and cannot be installed; the policies were not asked"; finish; }
boto "s3.create_bucket(Bucket='dreamscape-loki')" \
    "for bucket in ('dreamscape-vr-assets', 'dreamscape-user-uploads', 'dreamscape-ai-generations', 'dreamscape-backups', 'dreamscape-loki'): s3.put_object(Bucket=bucket, Key='there', Body=b'x')"
boto "import boto3, json
iam = boto3.client('iam', endpoint_url='$S3_ENDPOINT', region_name='us-east-1')
everything = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Allow', 'Action': 's3:*', 'Resource': '*'}]})
for name in ('pods', 'backup', 'loki', 'root'):
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=everything if name == 'root' else open(f'$policies/{name}.json').read())
    key = iam.create_access_key(UserName=name)['AccessKey']
    open(f'$scratch/{name}.key', 'w').write(key['AccessKeyId'] + ' ' + key['SecretAccessKey'])" || fail V8 R-056 "the accounts are made"
curl -sf -X POST -H 'Content-Type: text/plain' -d 0 "$S3_ENDPOINT/moto-api/reset-auth" >/dev/null
# may NAME: which of the actions an account may do, as a line of letters per bucket: (l)ist (r)ead (w)rite (d)elete, and (c)reate a bucket
may() {
    boto "import boto3, botocore
access, secret = open('$scratch/$1.key').read().split()
client = boto3.client('s3', endpoint_url='$S3_ENDPOINT', region_name='us-east-1', aws_access_key_id=access, aws_secret_access_key=secret)
def tries(action):
    try:
        action()
        return True
    except botocore.exceptions.ClientError as error:
        assert error.response['Error']['Code'] in ('AccessDenied', '403'), error
        return False
words = []
for short in ('vr-assets', 'user-uploads', 'ai-generations', 'backups', 'loki'):
    bucket = 'dreamscape-' + short
    word = ''
    word += 'l' if tries(lambda: client.list_objects_v2(Bucket=bucket)) else '-'
    word += 'r' if tries(lambda: client.get_object(Bucket=bucket, Key='there')) else '-'
    word += 'w' if tries(lambda: client.put_object(Bucket=bucket, Key='new', Body=b'x')) else '-'
    word += 'd' if tries(lambda: client.delete_object(Bucket=bucket, Key='new')) else '-'
    word += 'B' if tries(lambda: client.delete_bucket_policy(Bucket=bucket)) else '-'
    words.append(word)
words.append('c' if tries(lambda: client.create_bucket(Bucket='dreamscape-other')) else '-')
print(' '.join(words))"
}
check V8 R-056 "pods: objects of their three buckets, nothing of backups or logs, no bucket of their own" equal "lrwd- lrwd- lrwd- ----- ----- -" "$(may pods)"
check V8 R-056 "backup: reads those three and puts objects back, deletes backups alone" equal "lrw-- lrw-- lrw-- lrwd- ----- -" "$(may backup)"
check V8 R-056 "loki: its bucket alone" equal "----- ----- ----- ----- lrwd- -" "$(may loki)"

# -- Objects of that store are copied into another one outside and come back, with the accounts that the stack has
inner=$S3_ENDPOINT
inside() { # what is in the stack's store
    boto "import boto3
access, secret = open('$scratch/root.key').read().split()
s3 = boto3.client('s3', endpoint_url='$inner', region_name='us-east-1', aws_access_key_id=access, aws_secret_access_key=secret)
$1"
}
inside "for key, body in (('users/a.png', b'a' * 5000), ('users/b.png', b'b' * 5000)): s3.put_object(Bucket='dreamscape-user-uploads', Key=key, Body=body, ContentType='image/png')"
outer_port=$(free_ports 1)
"$moto" -m moto.server -H 127.0.0.1 -p "$outer_port" >"$scratch/outer.log" 2>&1 &
started+=("$!")
eventually 60 curl -sf "http://127.0.0.1:$outer_port/moto-api/" || { cat "$scratch/outer.log" >&2; fail V11 R-133 "a second S3 server starts"; finish; }
cut -d' ' -f1 "$scratch/backup.key" >"$scratch/secrets/inner-access"
cut -d' ' -f2 "$scratch/backup.key" >"$scratch/secrets/inner-secret"
printf outside-access >"$scratch/secrets/outer-access"
printf 'outside/secret+of-another-provider' >"$scratch/secrets/outer-secret"
secret >"$scratch/secrets/encryption"
outside() { # what is in the store outside
    AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test "$moto" -c "import boto3, sys
s3 = boto3.client('s3', endpoint_url='http://127.0.0.1:$outer_port', region_name='us-east-1')
$1"
}
outside "s3.create_bucket(Bucket='dreamscape-backups')"
copies() { # objects.py with the environment of compose/docker-compose.backup-external.yml
    BACKUP_S3_BUCKET=dreamscape-backups BACKUP_ENCRYPTION_KEY_FILE=$scratch/secrets/encryption BACKUP_WORK=$scratch \
        BACKUP_OBJECT_BUCKETS="dreamscape-vr-assets dreamscape-user-uploads dreamscape-ai-generations" S3_REGION=eu-west-3 \
        S3_ENDPOINT=http://127.0.0.1:$outer_port S3_ACCESS_KEY_FILE=$scratch/secrets/outer-access S3_SECRET_KEY_FILE=$scratch/secrets/outer-secret \
        SOURCE_S3_ENDPOINT=$inner SOURCE_S3_ACCESS_KEY_FILE=$scratch/secrets/inner-access SOURCE_S3_SECRET_KEY_FILE=$scratch/secrets/inner-secret \
        python3 "$root/docker/backup/objects.py" "$@" 2>&1
}
says() { local words=$1 said; shift; said=$("$@") && grep -qF -- "$words" <<<"$said" || { echo "$said"; return 1; }; }
check V11 R-133 "backups outside of the stack: objects are read from the stack's store" says "8 objects, " copies backup "$scratch/objects.list"
check V11 R-133 "and their copies are in the store outside" equal 3 "$(outside "print(s3.list_objects_v2(Bucket='dreamscape-backups', Prefix='objects/')['KeyCount'])")"
check V11 R-133 "and in no bucket of the stack" equal 1 "$(inside "print(s3.list_objects_v2(Bucket='dreamscape-backups')['KeyCount'])")"
check V11 R-133 "the copies are whole" says "3 contents are whole" copies verify "$scratch/objects.list"
inside "s3.delete_object(Bucket='dreamscape-user-uploads', Key='users/a.png')"
check V11 R-056,R-134 "a lost object comes back with the account of the backups" says "1 restored, 7 were there, 0 left" copies restore "$scratch/objects.list"
check V11 R-056,R-134 "with its content and its type" equal "image/png 5000" \
    "$(inside "one = s3.get_object(Bucket='dreamscape-user-uploads', Key='users/a.png'); print(one['ContentType'], len(one['Body'].read()))")"
finish
