#!/usr/bin/env bash
# curl, which leaves the return, and what an event is, to the script around it.
server=$1 last="" retry=1000

while true; do
  answer=$(curl --silent --user reader:reader --request POST "$server/token")
  token=$(sed 's/.*"token":"\([^"]*\)".*/\1/' <<<"$answer")
  while read -r field value; do
    case $field in
      event:) event=$value ;;
      id:) id=$value ;;
      data:) data=$value ;;
      retry:) retry=$value ;;
      "")
        echo "$event ${id:--} $data"
        last=${id:-$last}
        case "$event $data" in
          *'"force_logoff":true'* | *'"reconnect":false'* | CONNECTION_LIMIT_REACHED*)
            kill $! 2>/dev/null # it may have ended by itself
            exit 0
            ;;
        esac
        event="" id="" data=""
        ;;
    esac
  done < <(curl --silent --fail --no-buffer --header "Authorization: Bearer $token" \
    ${last:+--header "Last-Event-ID: $last"} "$server/connect")
  sleep "${retry%???}"
done
