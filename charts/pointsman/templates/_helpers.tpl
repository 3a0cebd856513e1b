{{/* The name of the release's objects. */}}
{{- define "pointsman.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains "pointsman" .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-pointsman" .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Labels by which pods of a component are selected; call with (dict "root" $ "component" NAME). */}}
{{- define "pointsman.selector" -}}
app.kubernetes.io/name: pointsman
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of an object. */}}
{{- define "pointsman.labels" -}}
{{ include "pointsman.selector" . }}
app.kubernetes.io/part-of: pointsman
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Metadata of an object; call with (dict "root" $ "component" NAME "suffix" "-x"). */}}
{{- define "pointsman.metadata" -}}
name: {{ include "pointsman.fullname" .root }}{{ .suffix }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "pointsman.labels" . | nindent 2 }}
{{- end -}}

{{/* An image of ours; call with (dict "root" $ "image" VALUES). */}}
{{- define "pointsman.image" -}}
{{- $name := .image.repository -}}
{{- if .root.Values.image.registry -}}
{{- $name = printf "%s/%s" .root.Values.image.registry $name -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (.image.tag | default .root.Chart.AppVersion) -}}
{{- end -}}
{{- end -}}

{{- define "pointsman.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* What no pod of the release may do. 10001 is the images' user. */}}
{{- define "pointsman.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pointsman.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "pointsman.secret" -}}
{{- .Values.secrets.existingSecret | default (include "pointsman.fullname" .) -}}
{{- end -}}

{{- define "pointsman.redisSecret" -}}
{{- .Values.redis.existingSecret | default (printf "%s-redis" (include "pointsman.fullname" .)) -}}
{{- end -}}

{{- define "pointsman.redisKey" -}}
{{- if .Values.redis.existingSecret -}}{{ .Values.redis.key }}{{- else -}}url{{- end -}}
{{- end -}}

{{- define "pointsman.configMap" -}}
{{- .Values.config.existingConfigMap | default (printf "%s-config" (include "pointsman.fullname" .)) -}}
{{- end -}}

{{/* Environment of a process that reads Redis and the database. */}}
{{- define "pointsman.storesEnv" -}}
- name: POINTSMAN_REDIS_URL
  valueFrom:
    secretKeyRef: {name: {{ include "pointsman.redisSecret" . }}, key: {{ include "pointsman.redisKey" . }}}
- name: POINTSMAN_DATABASE_URL
{{- if .Values.database.existingSecret }}
  valueFrom:
    secretKeyRef: {name: {{ .Values.database.existingSecret }}, key: {{ .Values.database.key }}}
{{- else }}
  value: sqlite:////var/lib/pointsman/data/pointsman.db
{{- end }}
- name: POINTSMAN_LOG_FORMAT
  value: {{ .Values.router.logFormat }}
{{- with .Values.router.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* Environment variable with the digest of the admin key: routers take bodies only from who shows a known one. */}}
{{- define "pointsman.adminKeysEnv" -}}
- name: POINTSMAN_ADMIN_KEY_DIGESTS
  valueFrom:
    secretKeyRef: {name: {{ include "pointsman.secret" . }}, key: admin-key-digest}
{{- end -}}

{{/* Environment variable with the secret that replicas want to see. */}}
{{- define "pointsman.replicaSecretEnv" -}}
- name: POINTSMAN_REPLICA_SECRET
  valueFrom:
    secretKeyRef: {name: {{ include "pointsman.secret" . }}, key: replica-secret}
{{- end -}}

{{/* Placement of a pod; call with the values that hold nodeSelector and tolerations. */}}
{{- define "pointsman.placement" -}}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Whether something changes the number of router pods. */}}
{{- define "pointsman.scaled" -}}
{{- if or .Values.router.autoscaling.enabled .Values.router.keda.enabled -}}true{{- end -}}
{{- end -}}
