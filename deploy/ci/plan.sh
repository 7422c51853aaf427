#!/bin/sh
# Makes the plan of a pull request, writes it as a comment, and sets the check by its exit
# code: 0 is green, 1 means that there is a difference (if that should be red), 2 an error.
#
# It needs omni-syncd and a checked-out repository, and runs in any POSIX shell. All it is
# told is in the environment; docs/pull-requests.md has the list:
#
#   PLAN_BINARY         omni-syncd                    where the program is
#   PLAN_SOURCE         .                             folder with the templates, below the one the job runs in
#   PLAN_PATH           (none)                        folder inside of PLAN_SOURCE
#   PLAN_SOURCE_NAME    (default)                     the daemon's name of the source
#   PLAN_PRUNE          false                         true: as a daemon with prune: true
#   PLAN_ENDPOINT       $OMNI_ENDPOINT                URL of Omni
#   PLAN_CONFIG         (none)                        the daemon's configuration, instead of the source
#   PLAN_CHECKOUT       .                             with PLAN_CONFIG: [SOURCE=]DIR, what is checked out
#   PLAN_BASE           (none)                        plan between this commit and HEAD, without Omni; "auto" is the target branch
#   PLAN_CHANGED_ONLY   false                         true: only clusters that this change touches
#   PLAN_CHANGED_SINCE  (target branch)               since where, with PLAN_CHANGED_ONLY
#   PLAN_NAME           default                       tells several plans of one pull request apart
#   PLAN_COMMENT        changes                       changes, always or never
#   PLAN_FAIL_ON        error                         error, difference or never
#   PLAN_DIR            omni-syncd-plan               where the reports go
#   PLAN_REPORT_URL     (the job)                     where people find them
#   PLAN_CA_FILE        (none)                        certificates to trust, for the server of the comment
set -eu

binary=${PLAN_BINARY:-omni-syncd}
source=${PLAN_SOURCE:-.}
name=${PLAN_NAME:-default}
comment=${PLAN_COMMENT:-changes}
fail_on=${PLAN_FAIL_ON:-error}
dir=${PLAN_DIR:-omni-syncd-plan}

wrong() {
  echo "error: $1" >&2
  exit 2
}

case $comment in always | changes | never) ;; *) wrong "PLAN_COMMENT (input comment) is always, changes or never" ;; esac
case $fail_on in error | difference | never) ;; *) wrong "PLAN_FAIL_ON (input fail-on) is error, difference or never" ;; esac
case ${PLAN_CHANGED_ONLY:-false} in true | false) ;; *) wrong "PLAN_CHANGED_ONLY (input changed-only) is true or false" ;; esac
case ${PLAN_PRUNE:-false} in true | false) ;; *) wrong "PLAN_PRUNE (input prune) is true or false" ;; esac

[ -z "${PLAN_ENDPOINT:-}" ] || export OMNI_ENDPOINT="$PLAN_ENDPOINT"

# A pull request can make a link of the folder, to something on this machine that is not
# its own. Links inside of it are looked after by omni-syncd itself.
refused=
if [ -z "${PLAN_CONFIG:-}" ]; then
  real=$(CDPATH='' cd -P -- "$source" 2>/dev/null && pwd -P) || refused="PLAN_SOURCE (input source) is no folder"
  here=$(pwd -P)
  case $real/ in
  "${here%/}"/*) ;;
  *) refused=${refused:-"PLAN_SOURCE (input source) leads out of the folder that the job runs in"} ;;
  esac
fi

# Where the branch of the pull request wants to go to.
target=
[ -z "${GITHUB_BASE_REF:-}" ] || target=origin/$GITHUB_BASE_REF
[ -z "${CI_MERGE_REQUEST_DIFF_BASE_SHA:-}" ] || target=$CI_MERGE_REQUEST_DIFF_BASE_SHA

base=${PLAN_BASE:-}
if [ "$base" = auto ]; then
  base=$target
  [ -n "$base" ] || wrong "this job is about no pull request, so PLAN_BASE (input base) cannot be auto; name a branch or a commit"
fi

since=
if [ "${PLAN_CHANGED_ONLY:-false}" = true ] && [ -z "$base" ]; then
  since=${PLAN_CHANGED_SINCE:-$target}
  [ -n "$since" ] || echo "This job is about no pull request: the plan is of all clusters." >&2
fi

report_url=${PLAN_REPORT_URL:-}
if [ -z "$report_url" ] && [ -n "${GITHUB_RUN_ID:-}" ]; then
  report_url=${GITHUB_SERVER_URL:-https://github.com}/${GITHUB_REPOSITORY:-}/actions/runs/$GITHUB_RUN_ID
fi
[ -n "$report_url" ] || report_url=${CI_JOB_URL:-}

mkdir -p "$dir"
rm -f "$dir/plan.txt" "$dir/plan.md" "$dir/plan.json" "$dir/plan.sarif" "$dir/code-quality.json"

# Problems at the lines they are in, as the server shows them. The plan says the same again, and
# decides about the check: so what this exits with does not matter.
if [ -z "${PLAN_CONFIG:-}$refused" ]; then
  if [ "${GITHUB_ACTIONS:-}" = true ]; then
    "$binary" validate --output=github --path="${PLAN_PATH:-}" -- "$source" 2>/dev/null || true
  elif [ "${GITLAB_CI:-}" = true ]; then
    "$binary" validate --output=gitlab --path="${PLAN_PATH:-}" -- "$source" >"$dir/code-quality.json" 2>/dev/null || true
  fi
fi

# One run makes all reports.
set -- diff --output=text \
  --output-file="text=$dir/plan.txt" --output-file="markdown=$dir/plan.md" \
  --output-file="json=$dir/plan.json" --output-file="sarif=$dir/plan.sarif" \
  --report-name="$name"
[ -z "$report_url" ] || set -- "$@" --full-report-url="$report_url"
[ -z "$base" ] || set -- "$@" --base="$base"
[ -z "$since" ] || set -- "$@" --changed-since="$since"

if [ -n "${PLAN_CONFIG:-}" ]; then
  set -- "$@" --config="$PLAN_CONFIG" --checkout="${PLAN_CHECKOUT:-.}"
else
  [ -z "${PLAN_PATH:-}" ] || set -- "$@" --path="$PLAN_PATH"
  [ -z "${PLAN_SOURCE_NAME:-}" ] || set -- "$@" --name="$PLAN_SOURCE_NAME"
  [ "${PLAN_PRUNE:-false}" = false ] || set -- "$@" --prune
  set -- "$@" -- "$source"
fi

# Runners of GitHub obey lines like ::error:: wherever they read them. What a pull request
# wrote into a template must not give them orders, so they are told to stop until a word
# that nobody knows.
word=
if [ "${GITHUB_ACTIONS:-}" = true ]; then
  word=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
  echo "::stop-commands::$word"
fi

code=0
if [ -z "$refused" ]; then
  "$binary" "$@" 2>&1 || code=$?
else
  echo "error: $refused"
  code=2
fi

if [ -n "$word" ]; then
  echo
  echo "::$word::"
fi

case $code in
0) result=none has=false ;;
1) result=difference has=true ;;
*) result=error has= ;;
esac

# A comment that shows the plan of an earlier commit would be worse than none.
made=true
if [ ! -s "$dir/plan.md" ]; then
  made=false
  printf '### ❌ There is no plan\n\nThe plan of this commit could not be made. The log of the job says why%s.\n' \
    "${report_url:+: <$report_url>}" >"$dir/plan.md"
fi

if [ -n "${GITHUB_OUTPUT:-}" ]; then
  {
    echo "result=$result"
    echo "has-difference=$has"
    echo "directory=$dir"
    for report in text:txt markdown:md json:json sarif:sarif; do
      [ ! -s "$dir/plan.${report#*:}" ] || echo "${report%:*}=$dir/plan.${report#*:}"
    done
  } >>"$GITHUB_OUTPUT"
fi

warn() {
  [ "${GITHUB_ACTIONS:-}" != true ] || echo "::warning::$1"
  echo "warning: $1" >&2
}

# The comment is not the check: a token that may not write (a fork's) makes a warning.
commented=0
if [ "$comment" = never ]; then
  [ -z "${GITHUB_STEP_SUMMARY:-}" ] || cat "$dir/plan.md" >>"$GITHUB_STEP_SUMMARY"
else
  set -- comment
  [ "$made" = true ] || set -- "$@" --name="$name"
  [ "$comment$result" != changesnone ] || set -- "$@" --only-update
  [ -z "${PLAN_CA_FILE:-}" ] || set -- "$@" --ca-file="$PLAN_CA_FILE"
  "$binary" "$@" -- "$dir/plan.md" || commented=$?

  case $commented in
  0) ;;
  3) warn "The plan was made, but the token may not write a comment. See the log, and \"Forks\" in docs/pull-requests.md." ;;
  *) warn "The plan was made, but the comment could not be written. See the log." ;;
  esac
fi

[ "$fail_on" != never ] || exit 0

case $code$commented in
0[03]) exit 0 ;;
1[03]) [ "$fail_on" = difference ] && exit 1 || exit 0 ;;
[01]*) exit 2 ;;
*) exit "$code" ;;
esac
