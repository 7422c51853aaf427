{{/* The pod of the Deployment and of the StatefulSet. */}}
{{- define "omni-syncd.pod" -}}
{{- $shards := int .Values.shards -}}
metadata:
  annotations:
    kubectl.kubernetes.io/default-container: omni-syncd
    checksum/config: {{ include "omni-syncd.checksum" . }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  labels:
    {{- /* Without the versions: they would start pods again for nothing. */}}
    {{- include "omni-syncd.selectorLabels" . | nindent 4 }}
    {{- with merge (deepCopy .Values.podLabels) .Values.commonLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "omni-syncd.serviceAccountName" . }}
  automountServiceAccountToken: {{ eq (include "omni-syncd.apiserver" .) "true" }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.dnsPolicy }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- with .Values.dnsConfig }}
  dnsConfig:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.hostAliases }}
  hostAliases:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: omni-syncd
      image: {{ include "omni-syncd.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config=/etc/omni-syncd/config/config.yaml
        - --log-level={{ .Values.log.level }}
        - --log-format={{ .Values.log.format }}
        {{- if $shards }}
        - --shard=$(POD_INDEX)/{{ $shards }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      env:
        - name: POD_NAME
          valueFrom:
            fieldRef:
              fieldPath: metadata.name
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        {{- if $shards }}
        - name: POD_INDEX
          valueFrom:
            fieldRef:
              fieldPath: metadata.labels['apps.kubernetes.io/pod-index']
        {{- end }}
        {{- with ((.Values.resources).limits).memory }}
        - name: GOMEMLIMIT
          value: {{ include "omni-syncd.goMemLimit" . | quote }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: metrics
          containerPort: {{ .Values.metrics.port }}
          protocol: TCP
        {{- if .Values.api.enabled }}
        - name: api
          containerPort: {{ .Values.api.port }}
          protocol: TCP
        {{- end }}
        {{- if include "omni-syncd.webhooks" . }}
        - name: webhooks
          containerPort: {{ .Values.webhooks.port }}
          protocol: TCP
        {{- end }}
      startupProbe:
        httpGet:
          path: /healthz
          port: metrics
        {{- with .Values.startupProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      livenessProbe:
        httpGet:
          path: /healthz
          port: metrics
        {{- with .Values.livenessProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      readinessProbe:
        httpGet:
          path: /readyz
          port: metrics
        {{- with .Values.readinessProbe }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- /* Directories, not single files: only those follow a change. */}}
        - name: config
          mountPath: /etc/omni-syncd/config
          readOnly: true
        - name: omni
          mountPath: /etc/omni-syncd/omni
          readOnly: true
        {{- range include "omni-syncd.mounts" . | fromYamlArray }}
        - name: {{ .name }}
          mountPath: {{ .path }}
          readOnly: true
        {{- end }}
        - name: state
          mountPath: /var/lib/omni-syncd
        - name: tmp
          mountPath: /tmp
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "omni-syncd.fullname" . }}
    - name: omni
      secret:
        secretName: {{ .Values.omni.existingSecret }}
        defaultMode: 0440
        items:
          - key: {{ .Values.omni.existingSecretKey }}
            path: {{ .Values.omni.existingSecretKey }}
    {{- range include "omni-syncd.mounts" . | fromYamlArray }}
    - name: {{ .name }}
      {{- if .configMap }}
      configMap:
        name: {{ .configMap }}
      {{- else }}
      secret:
        secretName: {{ .secret }}
        defaultMode: 0440
      {{- end }}
    {{- end }}
    {{- if not .Values.persistence.enabled }}
    - name: state
      {{- if .Values.persistence.emptyDirSizeLimit }}
      emptyDir:
        sizeLimit: {{ .Values.persistence.emptyDirSizeLimit }}
      {{- else }}
      emptyDir: {}
      {{- end }}
    {{- else if not $shards }}
    - name: state
      persistentVolumeClaim:
        claimName: {{ default (include "omni-syncd.fullname" .) .Values.persistence.existingClaim }}
    {{- end }}
    {{- /* The socket of the API, for `kubectl exec … -- omni-syncd status`. */}}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- $spread := .Values.topologySpreadConstraints }}
  {{- if and (not $spread) (gt (max (int .Values.replicas) $shards) 1) }}
  {{- $spread = list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway") }}
  {{- end }}
  {{- if $spread }}
  topologySpreadConstraints:
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "omni-syncd.selectorLabels" . | fromYaml)) }}
    {{- range $spread }}
    - {{ merge (deepCopy .) $selector | toYaml | nindent 6 | trim }}
    {{- end }}
  {{- end }}
{{- end }}

{{/* What else is mounted for reading: a list of {name, path, secret or configMap}. */}}
{{- define "omni-syncd.mounts" -}}
{{- $mounts := list }}
{{- with .Values.omni.ca }}
{{- if .existingConfigMap }}
{{- $mounts = append $mounts (dict "name" "omni-ca" "path" "/etc/omni-syncd/omni-ca" "configMap" .existingConfigMap) }}
{{- else if .existingSecret }}
{{- $mounts = append $mounts (dict "name" "omni-ca" "path" "/etc/omni-syncd/omni-ca" "secret" .existingSecret) }}
{{- end }}
{{- end }}
{{- range $i, $secret := .Values.credentials }}
{{- $mounts = append $mounts (dict "name" (printf "credentials-%d" $i) "path" (printf "/etc/omni-syncd/credentials/%s" $secret) "secret" $secret) }}
{{- end }}
{{- if .Values.api.enabled }}
{{- range $name, $secret := dict "api-tls" .Values.api.tls.existingSecret "api-tokens" .Values.api.tokens.existingSecret "api-client-ca" .Values.api.clientCA.existingSecret }}
{{- if $secret }}
{{- $mounts = append $mounts (dict "name" $name "path" (printf "/etc/omni-syncd/%s" $name) "secret" $secret) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.webhooks.tls.existingSecret }}
{{- $mounts = append $mounts (dict "name" "webhooks-tls" "path" "/etc/omni-syncd/webhooks-tls" "secret" .) }}
{{- end }}
{{- toYaml $mounts }}
{{- end }}
