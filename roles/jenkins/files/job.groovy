// Job DSL: the one job, from the pipeline beside this file.
pipelineJob('phoenix') {
    description('From a push to a rolled-out release')
    definition {
        cps {
            script(new File('/etc/jenkins/Jenkinsfile').text)
            sandbox()
        }
    }
}
// The first run registers the job's parameters and its polling, and only checks out. None is queued by a later start:
// it would take a push that came meanwhile for known.
if (!new File('/var/lib/jenkins/jobs/phoenix/builds').list()?.any { name -> name.integer }) {
    queue('phoenix')
}
