"""What teaches an agent the work cycle: the server's instructions, and prompts for its three moments."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mcp_server.tools.server import QuaymasterServer

INSTRUCTIONS = """\
Quaymaster coordinates agents that work on one code base. The cycle:
1. list_projects; create_project when yours is missing.
2. create_task, then update_task with status in-progress.
3. lock_files with the task_id before you edit. LOCKED names who holds what: do something else or \
wait.
4. Leases expire: naming the task in a call renews them. Never edit a file whose lock you lost.
5. update_task with notes, then status review or done; done and cancelled release the task's locks.
Leave out a step whose tool you do not see: your key or your toolsets hide it.
Errors have code, message and next: do what next says. Give each change a fresh idempotency_key, and \
the same one when you repeat it. A tool that takes a plan_token may answer with a plan and change nothing \
yet: show the person the plan, then call again with its token. Every other change is made at once."""

Project = Annotated[str, Field(description="Name of the project")]
TaskId = Annotated[str, Field(description="Id of the task")]
Goal = Annotated[str, Field(description="What is to be done")]

START = """\
Work on project {project}: {goal}

Before you edit anything, call list_tasks and check_files to find work that overlaps. Call create_task \
with the goal as its title and the files you expect to touch, set it to in-progress, and call \
lock_files with the task_id for exactly those files. If the answer is LOCKED, say who holds what until when, and \
choose other files or wait. Note progress with update_task as you go."""

FINISH = """\
Finish task {task_id} of project {project}.

Call lock_files once more with the task_id and every file you changed. The same fence as before means \
that you held all of them throughout. LOCKED, or a higher fence, means that you changed a file while \
you did not hold its lock: say so, and look at what others did there. Call update_task with a note that \
says what was done and what is left, with the branch, and with the pull request number if there is one. \
Then set the status: review when somebody must look at the work (the locks stay), done when nobody has \
to (the locks are released)."""

REVIEW = """\
Review project {project} and change nothing.

Call list_tasks with status in-progress and review, read quaymaster://locks/{project}, and call \
infrastructure_status. Report who works on what, which leases are about to end, tasks that hold \
locks without recent notes, tasks that overlap in files, and what you would do next."""


def add_prompts(server: QuaymasterServer) -> None:
    @server.prompt(title="Start work")
    def start_work(project: Project, goal: Goal) -> str:
        """Begin a piece of work: task, locks, then edit."""
        return START.format(project=project, goal=goal)

    @server.prompt(title="Finish work")
    def finish_work(project: Project, task_id: TaskId) -> str:
        """End a piece of work: notes, status, locks."""
        return FINISH.format(project=project, task_id=task_id)

    @server.prompt(title="Review a project")
    def review_project(project: Project) -> str:
        """Look at the state of a project: tasks, locks, stale work."""
        return REVIEW.format(project=project)
