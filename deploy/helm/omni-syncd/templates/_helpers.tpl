{{/* Names. A Lease and a Service are DNS labels, and a StatefulSet adds to its own. */}}
{{- define "omni-syncd.name" -}}
{{- default .Chart.Name .Values.nameOverride | replace "." "-" | trunc 52 | trimSuffix "-" }}
{{- end }}

{{- define "omni-syncd.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- if .Values.fullnameOverride }}
{{- $name = .Values.fullnameOverride }}
{{- else if contains $name .Release.Name }}
{{- $name = .Release.Name }}
{{- else }}
{{- $name = printf "%s-%s" .Release.Name $name }}
{{- end }}
{{- $name | replace "." "-" | trunc 52 | trimSuffix "-" }}
{{- end }}

{{/* What no other release has, in whatever namespace it is; it is the value of a label. */}}
{{- define "omni-syncd.instance" -}}
{{- $whole := printf "%s.%s" .Release.Namespace (include "omni-syncd.fullname" .) }}
{{- if gt (len $whole) 63 }}
{{- printf "%s-%s" (trunc 54 $whole | trimAll "-.") (sha256sum $whole | trunc 8) }}
{{- else }}
{{- $whole }}
{{- end }}
{{- end }}

{{- define "omni-syncd.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "omni-syncd.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* What pods are chosen by. It cannot be changed later. */}}
{{- define "omni-syncd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "omni-syncd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "omni-syncd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "omni-syncd.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | replace "+" "_" | trunc 63 | trimAll "-_." | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "omni-syncd.image" -}}
{{- $tag := .Values.image.tag | default .Chart.AppVersion -}}
{{- if and .Values.image.digest .Values.image.tag -}}
{{ .Values.image.repository }}:{{ $tag }}@{{ .Values.image.digest }}
{{- else if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ $tag }}
{{- end -}}
{{- end }}

{{/* Does a source have a webhook? Then they listen. "" is no. */}}
{{- define "omni-syncd.webhooks" -}}
{{- range .Values.config.sources }}{{ if .webhook }}true{{ end }}{{ end }}
{{- end }}

{{/* May the pod talk to the apiserver? "" is no. */}}
{{- define "omni-syncd.apiserver" -}}
{{- $api := .Values.config.api | default dict }}
{{- $access := .Values.config.access | default dict }}
{{- if or .Values.leaderElection.enabled .Values.suspensions.enabled (hasKey $api "kubernetes") (hasKey $access "secrets") }}true{{ end }}
{{- end }}

{{/* The names of the Leases, separated by spaces. With shards that of an undivided fleet is
among them: who holds it while shards are introduced gives it back at its end. */}}
{{- define "omni-syncd.leases" -}}
{{- $base := include "omni-syncd.fullname" . }}
{{- $shards := int .Values.shards }}
{{- $base }}
{{- if gt $shards 1 }}
{{- range $i := until $shards }} {{ $base }}-{{ $i }}-of-{{ $shards }}{{ end }}
{{- end }}
{{- end }}

{{/* 80% of a quantity of memory, in bytes: the garbage collector works harder before the
kernel steps in. */}}
{{- define "omni-syncd.goMemLimit" -}}
{{- $units := dict "" 1 "k" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 }}
{{- $text := . | toString }}
{{- $number := regexFind "^[0-9]+(\\.[0-9]+)?" $text }}
{{- $unit := trimPrefix $number $text }}
{{- if or (eq $number "") (not (hasKey $units $unit)) }}
{{- fail (printf "\n\nresources.limits.memory: %q: write it like 512Mi or 1Gi" $text) }}
{{- end }}
{{- mulf (float64 $number) (get $units $unit) 0.8 | int64 }}
{{- end }}
