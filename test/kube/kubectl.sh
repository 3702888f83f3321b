# shellcheck shell=bash
# kubectl.sh: kubectl for the tests, on a machine that may be busy. Sourced; the function kube comes
# from cluster.sh env.

# Errors of requests that the API server, or kubelet for it, has not heard: nothing was done.
unheard='TLS handshake timeout|dial tcp [^ ]*: (i/o timeout|connect: connection refused)|error dialing backend|The connection to the server .* was refused|the server is currently unable to handle the request'
unheard_tries=5

# k runs kubectl, again where it was not heard. What it says to stderr is heard when it ends.
k() {
	local said status input='' tries=$unheard_tries more=()
	[[ " $* " != *" -f - "* ]] || input=$(cat)
	while true; do
		status=0
		if [ -n "$input" ]; then
			{ said=$(kube kubectl "$@" "${more[@]}" <<<"$input" 2>&1 >&4 4>&-) || status=$?; } 4>&1
		else
			{ said=$(kube kubectl "$@" "${more[@]}" 2>&1 >&4 4>&-) || status=$?; } 4>&1
		fi
		if [ $status = 0 ] || [ $((tries -= 1)) -le 0 ] || ! grep -qE "$unheard" <<<"$said"; then break; fi
		# A deletion may have been heard, and only what became of it not.
		[[ ! "$*" =~ ^(-n [^ ]+ )?delete\  ]] || more=(--ignore-not-found)
		sleep 5
	done
	[ -z "$said" ] || printf '%s\n' "$said" >&2
	return $status
}
