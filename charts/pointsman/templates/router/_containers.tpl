{{/* The folder that the processes of one pod share: socket, spool and last known state, counters in memory. */}}
{{- define "pointsman.stateMounts" -}}
- {name: config, mountPath: /etc/pointsman, readOnly: true}
- {name: state, mountPath: /var/lib/pointsman}
- {name: metrics, mountPath: /var/lib/pointsman/metrics}
{{- if not .Values.database.existingSecret }}
- {name: data, mountPath: /var/lib/pointsman/data, subPath: data}
- {name: data, mountPath: /var/lib/pointsman/spool, subPath: spool}
{{- end }}
- {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "pointsman.router" -}}
name: router
image: {{ include "pointsman.image" (dict "root" $ "image" .Values.image.router) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [pointsman, router]
args:
  - --config=/etc/pointsman/config.yaml
  - --state-dir=/var/lib/pointsman
  - --host=0.0.0.0
  - --port=8080
  - --workers={{ .Values.router.workers }}
env:
  {{- include "pointsman.storesEnv" . | nindent 2 }}
  {{- include "pointsman.adminKeysEnv" . | nindent 2 }}
  {{- include "pointsman.replicaSecretEnv" . | nindent 2 }}
ports:
  - {name: http, containerPort: 8080}
{{- $scheme := ternary "HTTPS" "HTTP" (ne .Values.router.tls.existingSecret "") }}
startupProbe:
  httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
  periodSeconds: 2
  failureThreshold: 60
readinessProbe:
  httpGet: {path: /readyz, port: http, scheme: {{ $scheme }}}
  periodSeconds: 5
  timeoutSeconds: 2
  failureThreshold: 2
livenessProbe:
  httpGet: {path: /livez, port: http, scheme: {{ $scheme }}}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
lifecycle:
  preStop:
    exec:
      command: [/bin/sleep, {{ .Values.router.preStopSeconds | quote }}]
resources:
  {{- toYaml .Values.router.resources | nindent 2 }}
securityContext:
  {{- include "pointsman.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "pointsman.stateMounts" . | nindent 2 }}
  {{- if .Values.router.tls.existingSecret }}
  - {name: tls, mountPath: /etc/pointsman-tls, readOnly: true}
  {{- end }}
{{- end -}}

{{- define "pointsman.admin" -}}
name: admin
image: {{ include "pointsman.image" (dict "root" $ "image" .Values.image.router) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [pointsman, admin]
args:
  - --config=/etc/pointsman/config.yaml
  - --state-dir=/var/lib/pointsman
  - --metrics-host=0.0.0.0
  - --metrics-port=9090
env:
  {{- include "pointsman.storesEnv" . | nindent 2 }}
  {{- include "pointsman.adminKeysEnv" . | nindent 2 }}
ports:
  - {name: metrics, containerPort: 9090}
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  initialDelaySeconds: 15
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml .Values.router.adminResources | nindent 2 }}
securityContext:
  {{- include "pointsman.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "pointsman.stateMounts" . | nindent 2 }}
{{- end -}}

{{/* Its counters go to the folder that is mounted: the pod's, which the admin container shows, or its own. */}}
{{- define "pointsman.ledgerWriter" -}}
{{- $own := ne .Values.database.existingSecret "" -}}
name: ledger-writer
image: {{ include "pointsman.image" (dict "root" $ "image" .Values.image.router) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
command: [pointsman, ledger-writer]
args:
  - --config=/etc/pointsman/config.yaml
  - --state-dir=/var/lib/pointsman
  - --metrics-host=0.0.0.0
  - --metrics-port={{ ternary 9090 9091 $own }}
env:
  {{- include "pointsman.storesEnv" . | nindent 2 }}
ports:
  - {name: {{ ternary "metrics" "ledger-health" $own }}, containerPort: {{ ternary 9090 9091 $own }}}
livenessProbe:
  httpGet: {path: /healthz, port: {{ ternary "metrics" "ledger-health" $own }}}
  initialDelaySeconds: 15
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
resources:
  {{- toYaml .Values.ledgerWriter.resources | nindent 2 }}
securityContext:
  {{- include "pointsman.containerSecurity" . | nindent 2 }}
volumeMounts:
  {{- include "pointsman.stateMounts" . | nindent 2 }}
{{- end -}}
