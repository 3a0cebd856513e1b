{{/* Pieces of network policies. */}}
{{- define "pointsman.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  {{- include "pointsman.metadata" . | nindent 2 }}
{{- end -}}
{{- define "pointsman.peer" -}}
- podSelector:
    matchLabels:
      {{- include "pointsman.selector" . | nindent 6 }}
{{- end -}}
{{- define "pointsman.pools" -}}
- namespaceSelector: {}
  podSelector:
    matchLabels: {app.kubernetes.io/part-of: pointsman}
    matchExpressions:
      - {key: pointsman.dev/pool, operator: Exists}
{{- end -}}
{{/* What a process that reads Redis and the database may reach. */}}
{{- define "pointsman.toStores" -}}
{{- if not .Values.redis.existingSecret }}
- to:
    {{- include "pointsman.peer" (dict "root" . "component" "redis") | nindent 4 }}
  ports:
    - {port: 6379}
{{- end }}
{{- if or .Values.redis.existingSecret .Values.database.existingSecret }}
- {{ with .Values.networkPolicy.stores }}to:
    {{- toYaml . | nindent 4 }}
  {{ end -}}
  ports:
    {{- range .Values.networkPolicy.storePorts }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}
{{/* What a process that reads Redis alone may reach. */}}
{{- define "pointsman.toRedis" -}}
{{- if not .Values.redis.existingSecret }}
- to:
    {{- include "pointsman.peer" (dict "root" . "component" "redis") | nindent 4 }}
  ports:
    - {port: 6379}
{{- else }}
- {{ with .Values.networkPolicy.stores }}to:
    {{- toYaml . | nindent 4 }}
  {{ end -}}
  ports:
    {{- range .Values.networkPolicy.storePorts }}
    - {port: {{ . }}}
    {{- end }}
{{- end }}
{{- end -}}
