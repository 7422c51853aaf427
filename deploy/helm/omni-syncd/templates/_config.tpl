{{/* The daemon's configuration: what people wrote, and what follows from the other values. */}}
{{- define "omni-syncd.config" -}}
{{- $name := include "omni-syncd.fullname" . }}
{{- $owned := dict
      "omni" (dict "endpoint" .Values.omni.endpoint "serviceAccountKeyFile" (printf "/etc/omni-syncd/omni/%s" .Values.omni.existingSecretKey))
      "stateDir" "/var/lib/omni-syncd"
      "metrics" (dict "listen" (printf ":%d" (int .Values.metrics.port))) }}
{{- if ne .Values.omni.newer "apply" }}
{{- $_ := set $owned.omni "newer" .Values.omni.newer }}
{{- end }}
{{- if or .Values.omni.ca.existingConfigMap .Values.omni.ca.existingSecret }}
{{- $_ := set $owned.omni "caFile" (printf "/etc/omni-syncd/omni-ca/%s" .Values.omni.ca.key) }}
{{- end }}
{{- $kubernetes := dict }}
{{- if .Values.leaderElection.enabled }}
{{- $_ := set $kubernetes "leaderElection" (dict "lease" $name "leaseDuration" .Values.leaderElection.leaseDuration
      "renewDeadline" .Values.leaderElection.renewDeadline "retryPeriod" .Values.leaderElection.retryPeriod) }}
{{- end }}
{{- if .Values.suspensions.enabled }}
{{- $_ := set $kubernetes "suspensions" (printf "%s-suspensions" $name) }}
{{- end }}
{{- if include "omni-syncd.leads" . }}
{{- $_ := set $kubernetes "leaderEndpoints" $name }}
{{- end }}
{{- if $kubernetes }}
{{- $_ := set $owned "kubernetes" $kubernetes }}
{{- end }}
{{- if include "omni-syncd.webhooks" . }}
{{- $webhooks := dict "listen" (printf ":%d" (int .Values.webhooks.port)) }}
{{- if .Values.webhooks.tls.existingSecret }}
{{- $_ := set $webhooks "certFile" "/etc/omni-syncd/webhooks-tls/tls.crt" }}
{{- $_ := set $webhooks "keyFile" "/etc/omni-syncd/webhooks-tls/tls.key" }}
{{- end }}
{{- $_ := set $owned "webhooks" $webhooks }}
{{- end }}
{{- if .Values.api.enabled }}
{{- $api := dict "listen" (printf ":%d" (int .Values.api.port)) "certFile" "/etc/omni-syncd/api-tls/tls.crt" "keyFile" "/etc/omni-syncd/api-tls/tls.key" }}
{{- if .Values.api.tokens.existingSecret }}
{{- $_ := set $api "tokensFile" (printf "/etc/omni-syncd/api-tokens/%s" .Values.api.tokens.key) }}
{{- end }}
{{- if .Values.api.clientCA.existingSecret }}
{{- $_ := set $api "clientCAFile" (printf "/etc/omni-syncd/api-client-ca/%s" .Values.api.clientCA.key) }}
{{- end }}
{{- $_ := set $owned "api" $api }}
{{- end }}
{{- $config := deepCopy .Values.config }}
{{- $access := $config.access | default dict }}
{{- if hasKey $access "secrets" }}
{{- $_ := set $access.secrets "instance" ($access.secrets.instance | default (include "omni-syncd.instance" .)) }}
{{- end }}
{{- mergeOverwrite $config $owned | toYaml }}
{{- end }}

{{/* Is there a Service without a selector, whose endpoints the leader keeps? "" is no. */}}
{{- define "omni-syncd.leads" -}}
{{- if and .Values.leaderElection.enabled (eq (int .Values.shards) 0) (or .Values.api.enabled (include "omni-syncd.webhooks" .)) }}true{{ end }}
{{- end }}

{{/* The daemon takes a change of `sources` by itself; everything else counts after a restart. */}}
{{- define "omni-syncd.checksum" -}}
{{- omit (include "omni-syncd.config" . | fromYaml) "sources" | toYaml | sha256sum }}
{{- end }}

{{/* Everything that is missing or that contradicts itself, told at once. */}}
{{- define "omni-syncd.check" -}}
{{- $v := .Values }}
{{- $problems := list }}
{{- if not $v.image.repository }}
{{- $problems = append $problems "image.repository: it is missing; push what `make image` builds to your registry, and name it" }}
{{- else if contains "://" $v.image.repository }}
{{- $problems = append $problems "image.repository: leave out the https:// in front" }}
{{- else if regexMatch ":[^/]*$" $v.image.repository }}
{{- $problems = append $problems "image.repository: put what stands behind the colon into image.tag" }}
{{- end }}
{{- if and (not $v.image.tag) (not $v.image.digest) (eq .Chart.AppVersion "dev") }}
{{- $problems = append $problems "image.tag: it is missing; this chart is of no release, so give the VERSION that your image was built and pushed with" }}
{{- end }}
{{- if not $v.omni.endpoint }}
{{- $problems = append $problems "omni.endpoint: it is missing; give the URL of your Omni, such as https://example.omni.siderolabs.io" }}
{{- else if not (regexMatch "^https://[^\\s/?#@]+/?$|^http://(127\\.0\\.0\\.1|localhost|\\[::1\\])(:[0-9]+)?/?$" $v.omni.endpoint) }}
{{- $problems = append $problems "omni.endpoint: it has to be https:// and a host, with nothing behind that but a port, such as https://example.omni.siderolabs.io" }}
{{- end }}
{{- if not $v.omni.existingSecret }}
{{- $problems = append $problems (printf "omni.existingSecret: it is missing; make a Secret with the service account's key, `kubectl -n %s create secret generic omni-syncd-omni --from-file=%s=FILE`, and name it" .Release.Namespace $v.omni.existingSecretKey) }}
{{- end }}
{{- if and $v.omni.ca.existingConfigMap $v.omni.ca.existingSecret }}
{{- $problems = append $problems "omni.ca: it has both existingConfigMap and existingSecret; choose one" }}
{{- end }}
{{- if not $v.config.sources }}
{{- $problems = append $problems "config.sources: there is none; name at least one, as in docs/configuration.md" }}
{{- end }}
{{- $owners := dict
      "omni" "set omni.endpoint, omni.existingSecret and omni.ca"
      "stateDir" "set persistence"
      "metrics" "set metrics.port"
      "kubernetes" "set leaderElection and suspensions"
      "webhooks" "set webhooks.port and webhooks.tls.existingSecret" }}
{{- range $key, $instead := $owners }}
{{- if hasKey $v.config $key }}
{{- $problems = append $problems (printf "config.%s: the chart fills it in; leave it out, and %s" $key $instead) }}
{{- end }}
{{- end }}
{{- $taken := include "omni-syncd.labels" (merge (dict "Values" (omit $v "commonLabels")) (omit . "Values")) | fromYaml }}
{{- range $where, $labels := dict "commonLabels" $v.commonLabels "podLabels" $v.podLabels }}
{{- range $label, $_ := $labels }}
{{- if hasKey $taken $label }}
{{- $problems = append $problems (printf "%s: %s is set by the chart; leave it out" $where $label) }}
{{- end }}
{{- end }}
{{- end }}
{{- $text := toJson $v.config }}
{{- if regexMatch "\"[A-Za-z0-9+.-]+://[^/\\s\"@]*:[^/\\s\"@]*@" $text }}
{{- $problems = append $problems "config: there is a password in a URL, and it would stand in a ConfigMap and in Helm's history; put it into a Secret, name that in credentials, and its file in tokenFile or passwordFile" }}
{{- end }}
{{- range regexFindAll "\"/etc/omni-syncd/credentials/[^/\"]*" $text -1 | uniq }}
{{- $secret := base . }}
{{- if not (has $secret $v.credentials) }}
{{- $problems = append $problems (printf "credentials: config names a file in /etc/omni-syncd/credentials/%s/, and there is no %s in credentials; add it, or correct the path" $secret $secret) }}
{{- end }}
{{- end }}
{{- range $v.extraEnv }}
{{- if eq .name "OMNI_SERVICE_ACCOUNT_KEY" }}
{{- $problems = append $problems "extraEnv: leave out OMNI_SERVICE_ACCOUNT_KEY, since a value would stand in Helm's history; the key is that of omni.existingSecret" }}
{{- end }}
{{- end }}
{{- $access := $v.config.access | default dict }}
{{- if and $v.rbac.create (hasKey $access "secrets") (has ($access.secrets.namespace | default "") (list "" .Release.Namespace)) }}
{{- $problems = append $problems (printf "config.access.secrets.namespace: name another one than the release's: rights on Secrets are for all Secrets of a namespace, and in %s is the key of Omni. For Argo CD it is Argo CD's own; install omni-syncd elsewhere" .Release.Namespace) }}
{{- end }}
{{- $api := $v.config.api | default dict }}
{{- $filled := dict "listen" "api.enabled and api.port" "certFile" "api.tls.existingSecret" "keyFile" "api.tls.existingSecret" "tokensFile" "api.tokens.existingSecret" "clientCAFile" "api.clientCA.existingSecret" }}
{{- range $key, $instead := $filled }}
{{- if hasKey $api $key }}
{{- $problems = append $problems (printf "config.api.%s: the chart fills it in; leave it out, and set %s" $key $instead) }}
{{- end }}
{{- end }}
{{- $ways := or $v.api.tokens.existingSecret (hasKey $api "oidc") (hasKey $api "kubernetes") }}
{{- if $v.api.enabled }}
{{- if not $v.api.tls.existingSecret }}
{{- $problems = append $problems "api.tls.existingSecret: it is missing; the API needs a certificate, since tokens must not travel in the clear" }}
{{- end }}
{{- if not $ways }}
{{- $problems = append $problems "api: nobody could get in; give api.tokens.existingSecret, config.api.oidc or config.api.kubernetes" }}
{{- end }}
{{- else if or $ways $v.api.tls.existingSecret $v.api.clientCA.existingSecret }}
{{- $problems = append $problems "api.enabled: it is false, and there are ways to get in or a certificate; set it to true, or leave them out" }}
{{- end }}
{{- $hooks := include "omni-syncd.webhooks" . }}
{{- if and $v.webhooks.tls.existingSecret (not $hooks) }}
{{- $problems = append $problems "webhooks.tls.existingSecret: no source in config.sources has a webhook; give one `webhook:`, or leave it out" }}
{{- end }}
{{- $ports := list (int $v.metrics.port) }}
{{- if $v.api.enabled }}{{ $ports = append $ports (int $v.api.port) }}{{ end }}
{{- if $hooks }}{{ $ports = append $ports (int $v.webhooks.port) }}{{ end }}
{{- if ne (len $ports) (len (uniq $ports)) }}
{{- $problems = append $problems "metrics.port, api.port, webhooks.port: each has to be another one" }}
{{- end }}
{{- if and (gt (int $v.replicas) 1) (not $v.leaderElection.enabled) }}
{{- $problems = append $problems "replicas: several of them need leaderElection.enabled, or all of them would write" }}
{{- end }}
{{- if and (gt (int $v.replicas) 1) (gt (int $v.shards) 0) }}
{{- $problems = append $problems "replicas: with shards there is one pod for each shard; set replicas to 1" }}
{{- end }}
{{- if and $v.persistence.enabled (gt (int $v.replicas) 1) }}
{{- $problems = append $problems "persistence.enabled: several replicas cannot share a volume, and need none: what has to last is in Git, Omni and Kubernetes; set it to false" }}
{{- end }}
{{- if and $v.persistence.existingClaim (gt (int $v.shards) 0) }}
{{- $problems = append $problems "persistence.existingClaim: with shards each pod has a claim of its own; leave it out" }}
{{- end }}
{{- if and $v.persistence.existingClaim (not $v.persistence.enabled) }}
{{- $problems = append $problems "persistence.existingClaim: it is not used; set persistence.enabled to true" }}
{{- end }}
{{- if $problems }}
{{- fail (printf "\n\n%s\n" (join "\n" $problems)) }}
{{- end }}
{{- end }}
